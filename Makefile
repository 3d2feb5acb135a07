# `make demo` and `make test` set up everything they need; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format wheel bench-cpu bench-arm clean

BIN := .venv/bin
TARGET ?= rpi4
RECIPE ?= quickstart

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12

setup: ## make .venv and install what edgekit needs
	@scripts/setup.sh

demo: setup ## build the quickstart recipe for a Raspberry Pi 4 (TARGET=, RECIPE= choose others)
	$(BIN)/edgekit build --target $(TARGET) --recipe $(RECIPE)
	@echo "The report as a page: $(CURDIR)/dist/$(TARGET)/report.html"

test: lint ## lint, types, import contracts and all tests
	$(BIN)/pytest

lint: setup ## style, spelling, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## mend style and formatting in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup ## build a wheel into wheelhouse/
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheelhouse .

bench-cpu: setup ## edgekit against onnxruntime on this processor (OPENVINO=folder: and OpenVINO)
	$(BIN)/python -m bench.cpu $(if $(OPENVINO),--openvino $(OPENVINO))

bench-arm: setup ## instructions of edgekit and onnxruntime on emulated Raspberry Pis
	$(BIN)/python -m bench.arm

clean: ## remove .venv and everything the other targets made
	rm -rf .venv build dist wheelhouse .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
