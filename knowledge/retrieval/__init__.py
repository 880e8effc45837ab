"""From a question to passages, of those documents alone that the asker may read.

terms.py     text into words: English stems, Chinese words and pairs of characters
index.py     the postings of a version: which words stand in which of its chunks
lexical.py   BM25 over the postings of what may be read
vectors.py   embeddings of chunks through the inference service, and the chunks nearest to a question
options.py   a base's settings
search.py    the two fused, with the scores of every stage
"""
