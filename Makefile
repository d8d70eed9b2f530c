# Everything a newcomer needs. The first call of any target makes .venv; later calls find it.
PYTHON ?= $(shell command -v python3.12 || ls $${HOME}/.pyenv/versions/3.12.*/bin/python3.12 2>/dev/null | tail -1)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PLUGINS := plugins/lerobot_policy_moxin_vla plugins/lerobot_env_moxin_sim
EXTRAS := ros,sim,policy,data,train,dev

export HF_HUB_OFFLINE ?= 1

.PHONY: setup demo loop test unit lint format nightly doctor bench nano clean

setup: $(STAMP)

$(STAMP): setup.py constraints.txt $(addsuffix /pyproject.toml,$(PLUGINS))
	@$(if $(PYTHON),,echo "Python 3.12 is needed and was not found; put python3.12 on PATH or call make PYTHON=/path/to/python3.12"; exit 1)
	@test -x $(BIN)/python && $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' && $(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@touch $(VENV)/COLCON_IGNORE
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]" $(addprefix -e ,$(PLUGINS))
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/moxin-vla demo

# Teaches a task from beginning to end in the simulator; run again to go on.
loop: export OMP_NUM_THREADS = 1
loop: $(STAMP)
	$(BIN)/moxin-vla loop

doctor: $(STAMP)
	$(BIN)/moxin-vla doctor

# Fast tiers first. OMP_NUM_THREADS: more threads of torch are slower beside a simulator.
test: export OMP_NUM_THREADS = 1
test: $(STAMP)
	$(BIN)/python -m pytest -q tests/unit --durations=3
	$(BIN)/python -m pytest -q tests --ignore=tests/unit --durations=5

unit: export OMP_NUM_THREADS = 1
unit: $(STAMP)
	$(BIN)/python -m pytest -q tests/unit

# What takes too long for every change: new random histories by the thousand.
nightly: export OMP_NUM_THREADS = 1
nightly: $(STAMP)
	MOXIN_VLA_EXAMPLES=5000 $(BIN)/python -m pytest -q tests/property tests/recording/test_store.py --timeout=0 --durations=5

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python moxin_vla/core moxin_vla/runtime moxin_vla/safety

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python benchmarks/rendering.py
	$(BIN)/python benchmarks/policy_latency.py
	$(BIN)/python benchmarks/control_tick.py
	$(BIN)/python benchmarks/stamp_to_command.py
	$(BIN)/python benchmarks/recording.py --seconds 60

# Makes moxin-nano from nothing, or goes on where the last call stopped; hours on two cores.
nano: $(STAMP)
	$(BIN)/moxin-vla nano

clean:
	rm -rf $(VENV) build install log
