# make demo and make test do everything, set-up included.
PYTHON ?= python3.11
SUPPORTED := 3.11 3.12
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKPOINT := runs/demo/best.safetensors

.PHONY: help demo test test-fast campaign docs-check site wheel-check lint format bench results web clean

help:
	@echo "make demo       train on synthetic signs, convert, compare: runs/demo, exports/demo"
	@echo "make test       lint and the whole test suite"
	@echo "make test-fast  lint and the tests that neither train nor convert"
	@echo "make campaign   kills commands at 550 moments, fills the disk, damages 5,216 files: over an hour"
	@echo "make docs-check  runs every command of the README and docs/ on small recordings"
	@echo "make site       the README, docs/ and the API as pages: site/index.html"
	@echo "make wheel-check  installs the wheel into empty environments and uses it; minutes, gigabytes"
	@echo "make lint       ruff check and format check;  make format applies them"
	@echo "make bench      times on this machine: results/latency"
	@echo "make results DATA=FOLDER  train, convert, quantize, evaluate on both data sets: results/"
	@echo "make web TASK=FILE  shows exports/asl10 in a browser, with a camera"
	@echo "make clean      remove what demo made (the environment stays)"

# Asked before anything is made or downloaded.
define CHECK_PYTHON
@found=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') || found="none"; \
case " $(SUPPORTED) " in *" $$found "*) ;; *) echo "PYTHON=$(PYTHON) is Python $$found, and this" \
	"project runs on $(SUPPORTED): make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2 ;; esac
endef

# The stamp is newer than what it was installed from, so a current environment is reused.
$(STAMP): requirements.txt pyproject.toml
	$(CHECK_PYTHON)
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

# By file: what a file's tests share is made once. In the order that tests/conftest.py gives them,
# the longest first; xdist's own goes by the number of tests, and few of these take longest.
PARALLEL = --numprocesses 2 --dist loadfile --no-loadscope-reorder
test: lint
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: lint
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# What the suite tries 20 times, 500 times, and what takes longer 50 times; other moments with SIGNBART_CAMPAIGN_SEED.
KILLS ?= 500
campaign: $(STAMP)
	SIGNBART_CAMPAIGN=$(KILLS) $(BIN)/python -m pytest tests/robustness

# By default pytest leaves out what is marked docs.
docs-check: $(STAMP)
	$(BIN)/python -m pytest tests/docs -m "docs or not docs" $(PARALLEL)

# Ends where a link or an anchor leads nowhere, or a docstring does not fit its function. mkdocs.yml.
site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# What a user does who has the wheel and no checkout, in a folder of its own: without extras, and with
# those of PyTorch, route litert and quantizing, from training to the label of a recording.
WHEEL_CHECK ?= build/wheel-check
USED := $(abspath $(WHEEL_CHECK))/used
EXAMPLE := $(abspath exports/example/demo_litert_dynamic_int8.tflite)
wheel-check:
	$(CHECK_PYTHON)
	rm -rf $(WHEEL_CHECK) build/lib
	mkdir -p $(USED)
	$(PYTHON) -m venv $(WHEEL_CHECK)/base
	$(PYTHON) -m venv $(WHEEL_CHECK)/extras
	$(WHEEL_CHECK)/base/bin/python -m pip wheel --quiet . --no-deps --wheel-dir $(WHEEL_CHECK)
	$(WHEEL_CHECK)/base/bin/python -m pip install --quiet $(WHEEL_CHECK)/signbart-*.whl
	cd $(USED) && export PATH=$(abspath $(WHEEL_CHECK))/base/bin:$$PATH && set -ex; \
	signbart synthetic signs.npz; \
	signbart classify $(EXAMPLE) signs.npz[0]; \
	signbart web $(EXAMPLE) --packages none --build page 2>&1 | grep 'npm ci'; \
	signbart convert --checkpoint none.safetensors --output none 2>&1 | grep 'signbart\[torch\]'
	wheel=$$(echo $(WHEEL_CHECK)/signbart-*.whl); \
	$(WHEEL_CHECK)/extras/bin/python -m pip install --quiet "$$wheel[torch,litert,quantize]"
	cd $(USED) && export PATH=$(abspath $(WHEEL_CHECK))/extras/bin:$$PATH && set -ex; \
	signbart train --config demo --data signs.npz --output run --test-signers P06 \
		--set train.epochs=6; \
	signbart convert --checkpoint run/best.safetensors --data signs.npz --output exports \
		--quantize fp32,dynamic_int8; \
	signbart quantize exports/demo_litert_fp32.tflite --scheme int8 --calibration-data signs.npz; \
	signbart classify exports/demo_litert_int8.tflite signs.npz[0]; \
	signbart parity --reference run/best.safetensors exports/demo_litert_fp32.tflite

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
results: $(STAMP)
	@test -n "$(DATA)" || { echo "make results DATA=FOLDER, the folder that holds isl_kinect30 and" \
		"fsl7_holistic"; exit 2; }
	-$(BIN)/python -m signbart_runtime.loso --config configs/isl_kinect30.yaml --data $(DATA)/isl_kinect30 \
		--output $(RUNS)/loso --qat --jobs 2 --resume $(OPTIONS)
	-$(BIN)/python -m signbart_runtime.loso --config configs/kp90.yaml --set train.val_fraction=0.3 \
		--data $(DATA)/fsl7_holistic --output $(RUNS)/fsl7 --full-data --resume $(OPTIONS)
	$(BIN)/python -m signbart_runtime.report $(RUNS)/loso $(RUNS)/fsl7 --output results

# Without TASK, a holistic_landmarker.task, it plays recorded clips.
PAGE_PACKAGES := web/node_modules/.package-lock.json
$(PAGE_PACKAGES): web/package-lock.json
	npm ci --prefix web --no-audit --no-fund
	touch $@

web: $(STAMP) $(PAGE_PACKAGES)
	$(BIN)/python -m signbart_runtime.web exports/asl10 $(if $(TASK),--task $(TASK)) $(OPTIONS)

clean:
	rm -rf runs/demo exports/demo
