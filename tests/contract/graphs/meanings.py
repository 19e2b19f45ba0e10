"""Deterministic embeddings: one dimension for each word a test knows."""

WORDS = ("cat", "dog", "car", "train", "apple", "pear")
DIMENSIONS = len(WORDS)


async def embed(texts: list[str]) -> list[list[float]]:
    return [[0.01 + text.lower().count(word) for word in WORDS] for text in texts]
