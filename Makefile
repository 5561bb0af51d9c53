# SPDX-License-Identifier: MIT
# A short face for Meson and Ninja.
BUILD ?= build

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

$(BUILD)/build.ninja: tools/bootstrap
	@tools/bootstrap build
	@log=$$(meson setup $(BUILD) $(MESON_FLAGS) 2>&1) || { echo "$$log"; exit 1; }

run: all
	@tools/bootstrap run
	@tools/demo

test: all
	@tools/bootstrap test
	@tools/run-tests $(if $(TOTALS),--totals $(TOTALS))

bench: all
	@tools/bootstrap bench
	@test/bench/run

install: all
	@meson install -C $(BUILD)

clean:
	@rm -rf $(BUILD)

.PHONY: all run test bench install clean
