//! The `keyholder` program: hands the process's arguments and environment to the library and its exit code back.

use std::process::ExitCode;

/// Keeps the data plane's memory small and its allocations fast.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keyholder::main(std::env::args_os(), keyholder::Environment::of_process())
}
