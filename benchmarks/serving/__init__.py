"""Load on inference servers through the OpenAI API, ours and others' in one session: `python -m benchmarks.serving`.

exchange.py sends one request and notes when each byte came; load.py sends many, in a closed or an open loop; figures.py
turns what came back into numbers; scenarios.py says what is asked; servers.py starts whom we ask; session.py takes
turns between them; report.py prints the table and writes it into the documentation. benchmarks/peers knows the others.
"""
