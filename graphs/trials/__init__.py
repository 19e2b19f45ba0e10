"""Plans and follows a clinical trial: sample size and power, survival comparison, interim look."""
