//! The `weir` command. Everything it does is in [`weir::cli`].

fn main() -> std::process::ExitCode {
    weir::cli::main()
}
