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

# What a first `make` had to do without (cmocka) is there now: configured again.
test:
	@tools/bootstrap test
	@[ ! -f $(BUILD)/build.ninja ] || meson introspect --tests $(BUILD) | grep -q ':unit"' || \
		meson setup --reconfigure $(BUILD) >/dev/null
	@$(MAKE) --no-print-directory all
	@tools/run-tests $(RUN_TESTS)

# The same in Debian machines of their own: systemd, each kind of control groups, arm64 (test/vm/README.md).
test-vm:
	@tools/bootstrap vm
	@test/vm/run $(VM)

bench: all
	@tools/bootstrap bench
	@test/bench/run

install: all
	@meson install -C $(BUILD)

clean:
	@rm -rf $(BUILD)

.PHONY: all run test test-vm bench install clean
