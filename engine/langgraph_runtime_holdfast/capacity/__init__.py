"""What a load needs: `holdfast capacity` computes it from what a run was measured to cost."""
