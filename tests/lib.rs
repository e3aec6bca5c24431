//! Nothing but the test binary beside it.
