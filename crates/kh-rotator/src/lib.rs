//! Runs the rotation core: journal, leases, effects, evidence, schedule.
