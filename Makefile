# The words of daily work; bash .ci/run needs nothing but Python, these need its environment:
# pip install -c constraints.txt -e ".[dev]"
.PHONY: check test lint docs

check: # all that CI runs, in a fresh environment
	bash .ci/run

test:
	pytest -n 2

lint:
	ruff check .
	ruff format --check .
	mypy

docs:
	mkdocs build --strict
