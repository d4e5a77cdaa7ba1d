# What a person types. Each target is a script, so that it can be read and run alone.
.PHONY: run test check bench lock

run:
	@exec scripts/run

test:
	@exec scripts/test

check:
	@exec scripts/check

bench:
	@exec scripts/bench

lock:
	@exec scripts/lock
