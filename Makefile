# make demo and make test do everything, set-up included.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKPOINT := runs/demo/best.safetensors

.PHONY: help demo test test-fast docs-check lint format bench book clean

help:
	@echo "make demo       train on synthetic signs, convert, compare: runs/demo, exports/demo"
	@echo "make test       lint and the whole test suite"
	@echo "make test-fast  lint and the tests that neither train nor convert"
	@echo "make docs-check  runs every command of the README and docs/ on small recordings"
	@echo "make lint       ruff check and format check;  make format applies them"
	@echo "make bench      times on this machine: results/latency"
	@echo "make book DATA=FOLDER  train, convert, quantize, evaluate on both data sets: results/"
	@echo "make clean      remove what demo made (the environment stays)"

# The stamp is newer than what it was installed from, so a current environment is reused.
$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

runs/demo/signs.npz: $(STAMP)
	$(BIN)/python -m signbart.synthetic $@

demo: runs/demo/signs.npz
	$(BIN)/python -m signbart_torch.train --config configs/demo.yaml --data runs/demo/signs.npz \
		--output runs/demo --test-signers P06 --resume $(OPTIONS)
	$(BIN)/python bridge/convert.py --checkpoint $(CHECKPOINT) --route litert --output exports/demo \
		--data runs/demo/signs.npz

# By file: what a file's tests share is made once. In the order of the folders: the few tests that
# convert are the longest, and would come last and one by one if files went by their number of tests.
PARALLEL = --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: lint
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: lint
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# By default pytest leaves out what is marked docs.
docs-check: $(STAMP)
	$(BIN)/python -m pytest tests/docs -m "docs or not docs" $(PARALLEL)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# On an idle machine: everything here is a time. LATENCY, STEP and CONVERSION are further options.
FRAMES ?= 64
PROFILED = results/latency/T$(FRAMES)
bench: demo
	$(BIN)/python -m benchmarks.latency --output results/latency $(LATENCY)
	$(BIN)/python -m benchmarks.operators $(PROFILED)/plain.tflite $(PROFILED)/litert_fp32.tflite \
		$(PROFILED)/litert_dynamic_int8.tflite $(PROFILED)/litert_int8.tflite \
		--output results/latency/operators.md
	$(BIN)/python -m benchmarks.training_step $(STEP)
	$(BIN)/python -m benchmarks.conversion --checkpoint $(CHECKPOINT) --data runs/demo/signs.npz \
		--output results/latency/conversion.md $(CONVERSION)
	$(BIN)/python -m benchmarks.startup exports/demo/demo_litert_fp32.tflite runs/demo/signs.npz[0] \
		--output results/latency/startup.md

# The report says what failed, and fails then. What is finished in RUNS is not made again.
RUNS ?= runs
book: $(STAMP)
	@test -n "$(DATA)" || { echo "make book DATA=FOLDER, the folder that holds isl_kinect30 and" \
		"fsl7_holistic"; exit 2; }
	-$(BIN)/python -m bridge.loso --config configs/isl_kinect30.yaml --data $(DATA)/isl_kinect30 \
		--output $(RUNS)/loso --qat --jobs 2 --resume $(OPTIONS)
	-$(BIN)/python -m bridge.loso --config configs/kp90.yaml --set train.val_fraction=0.3 \
		--data $(DATA)/fsl7_holistic --output $(RUNS)/fsl7 --full-data --resume $(OPTIONS)
	$(BIN)/python -m bridge.report $(RUNS)/loso $(RUNS)/fsl7 --output results

clean:
	rm -rf runs/demo exports/demo
