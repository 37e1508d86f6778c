"""One fold of leave-one-signer-out: trained, converted, evaluated, timed."""
