# make            lists the targets
# Everything lies in .cache; `make clean` removes it, and the lab's containers, volumes and images.

.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .cache/venv
PYTHON := $(VENV)/bin/python
RUN := $(PYTHON) tests/run.py
LAB := python3 tests/lab/lab.py

.PHONY: help demo test lint unit thorough contract faults sanity package build molecule oldest lab lab-down corpus mutants bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

demo: ## from nothing to an answer: Ollama, a model, FastGPT's compose project and the hop table, on one host of the lab
	@tests/lab/demo/demo

test: ## every test: lint, sanity, thorough, contract, faults (a sample), package, corpus beside molecule (a table at the end)
	@tests/prepare all begin
	@$(RUN) lint sanity thorough contract faults package corpus + images molecule

lint: venv ## ansible-lint (production), yamllint, ruff
	@$(RUN) lint

unit: venv ## pure logic, seconds; of each property a few examples
	@$(RUN) unit

thorough: venv ## pure logic with very many cases: death at every step, any state to any other; about a minute
	@$(RUN) thorough

contract: venv ## every recorded exchange of a real server
	@$(RUN) contract

faults: venv ## each fault at each moment of a pull, on loopback, ten minutes (make test takes a sample); LAB_OLLAMA=/path/to/ollama against a real one
	@$(RUN) campaign

sanity: venv ## ansible-test sanity
	@$(RUN) sanity

package: venv ## the tarball (.cache/dist), installed into an empty place and used by its name
	@$(RUN) package

build: package ## the same: leaves the tarball in .cache/dist

molecule: ## scenarios on fresh hosts: all, or S="name name"; LAB_KEEP=1 leaves the hosts there
	@tests/prepare all images
	@$(RUN) molecule $(S)

oldest: venv ## all scenarios, or S="name name", with the oldest ansible-core that is promised
	@tests/prepare oldest images
	@TEST_VENV=oldest $(RUN) molecule $(S)

lab: ## bring the lab up: all hosts, or H="box gpu1"; LAB_NAME separates several
	@tests/prepare demo images
	@$(LAB) up $(H)

lab-down: ## take the lab of this LAB_NAME down
	@$(LAB) down

corpus: ## every official compose file, layouts of projects and some mutants, held against docker compose itself
	@tests/prepare all images
	@$(RUN) corpus

mutants: ## MUTANTS=1200 random changes of compose files, SEED=..: right or refused, never wrong
	@tests/prepare all images
	@$(RUN) mutants

bench: export LAB_NAME ?= bench
bench: ## figures, as ratios measured side by side
	@tests/prepare all images
	@$(LAB) up gpu1 box
	@$(PYTHON) tests/bench/bench.py; met=$$?; $(PYTHON) tests/bench/upload.py && exit $$met

clean: ## remove everything: containers, networks, volumes, images, .cache, and the Docker engine if it was started here
	@$(LAB) clean
	@rm -rf .cache .ansible .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: venv
venv:
	@tests/prepare all
