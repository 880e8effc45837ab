"""From passages to what the model is asked, and from its answer to what that rests on. Knows no database.

question.py   what to search for, when a question leans on the one before
prompt.py     the passages in the prompt: numbered, marked off as quotations, within the model's context
support.py    which sentences of an answer which passages say, and which none does
sentences.py  text into sentences, in English and Chinese
"""
