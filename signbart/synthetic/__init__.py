"""The embedded default data set: parametric signs by distinct synthetic signers, seeded."""
