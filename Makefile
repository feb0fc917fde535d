# `make train` and `make test` need no other setup: both create their own environment in .venv.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: train test test-all bench bench-gpu results check format schema docs install install-dev runtimes ray hydra14 stores examples clean

train: install  ## train; pass overrides as ARGS="backbone=parcnet_xs trainer.max_epochs=2"
	$(BIN)/python -m parcnet_train $(ARGS)

test: install-dev  ## run the tests that CI runs
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: install-dev runtimes ray hydra14 stores examples  ## also run the slow tests, and those that need environments of their own
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not runtimes and not ray and not stores and not examples"
	.venv-runtimes/bin/python -m pytest -n 2 --dist worksteal -m runtimes tests/deploy tests/actions/benchmark
	.venv-ray/bin/python -m pytest -m ray tests/sweeps
	.venv-stores/bin/python -m pytest -m stores tests/data/stores
	.venv-hydra14/bin/python -m pytest -n 2 --dist worksteal -m "not runtimes and not ray and not stores and not examples" \
		tests/config tests/sweeps tests/test_cli.py tests/callbacks/test_pruning.py \
		--ignore tests/config/test_group_schemas.py  # needs check-jsonschema, not Hydra
	.venv-examples/bin/python -m pytest --noconftest -m examples tests/examples/test_schemas.py

bench: install-dev  ## time everything on this CPU, in less than 20 minutes, and write docs/benchmarks.md
	$(BIN)/python scripts/bench.py build/bench --write docs/benchmarks.md $(ARGS)

bench-gpu: install-dev  ## time the training step on this GPU, in less than 12 minutes
	$(BIN)/python scripts/bench.py build/bench --gpu --write docs/benchmarks.md $(ARGS)

results: install-dev  ## write docs/results and its summary in the README from docs/results/runs
	$(BIN)/python scripts/write_results.py docs/results/runs

check: install-dev  ## format, lint, type check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schema: install  ## write conf/schema and the generated pages anew, after a constructor, a section or conf/ has changed
	rm -rf build/schema
	$(BIN)/python -m parcnet_train action=schema hydra.run.dir=build/schema
	cp build/schema/schema/*.json conf/schema/
	cp build/schema/configuration.md docs/reference/
	$(BIN)/python -m parcnet_train --help > docs/reference/help.txt

docs: .venv-docs/.installed  ## build the documentation site into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --clean --strict
	@echo 'build/site/index.html; with search: python3 -m http.server --directory build/site'

install: .venv/.installed
install-dev: .venv/.installed-dev
runtimes: .venv-runtimes/.installed  ## make .venv-runtimes, with every runtime of exported files
stores: .venv-stores/.installed  ## make .venv-stores, with an S3 server, its client and litData
ray: .venv-ray/.installed  ## make .venv-ray, with Ray and Hydra's launcher for it
hydra14: .venv-hydra14/.installed  ## make .venv-hydra14, with Hydra 1.4
examples: .venv-examples/.installed  ## make .venv-examples, with the schemas that check the files of examples/

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), expected Python 3.11 to 3.13. Fix: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) '.[dev]'
	touch $@

# Some extras need older versions than the tests, and Hydra 1.4 is tested beside 1.3: environments of
# their own, with what their tests import. Pins of constraints-NAME.txt replace those of constraints.txt.
.venv-runtimes/.installed: EXTRAS := onnx,openvino,mnn,ncnn,litert,executorch,timm
.venv-ray/.installed: EXTRAS := ray
.venv-stores/.installed: EXTRAS := pack,s3,stores
.venv-hydra14/.installed: EXTRAS := onnx,optuna,slurm,timm
.venv-%/.installed: pyproject.toml constraints.txt constraints-%.txt
	$(PYTHON) -m venv .venv-$*
	awk -F= 'NR == FNR {own[$$1]} NR == FNR || !($$1 in own)' constraints-$*.txt constraints.txt > .venv-$*/constraints.txt
	.venv-$*/bin/python -m pip install --quiet --constraint .venv-$*/constraints.txt \
		--editable '.[$(EXTRAS)]' pytest pytest-xdist
	touch $@

# The schemas of examples/ need neither torch nor this package.
.venv-examples/.installed: constraints-examples.txt
	$(PYTHON) -m venv .venv-examples
	.venv-examples/bin/python -m pip install --quiet --constraint constraints-examples.txt \
		skypilot kubeflow-trainer-api pytest
	touch $@

# The site needs only the packages of the extra `docs`: not torch, and not this package.
.venv-docs/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
		| .venv-docs/bin/python -m pip install --quiet --requirement /dev/stdin
	touch $@

clean:  ## remove the environment and caches; runs/ stays
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache
