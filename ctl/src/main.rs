use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    weirctl::run(std::env::args_os()).await
}
