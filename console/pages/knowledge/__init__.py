"""Knowledge bases for those who ask and fill them: lists, documents, uploads, the text that citations lead to."""
