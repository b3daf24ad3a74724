//! Temporary.
use clap::Parser;
#[tokio::main]
async fn main() -> std::process::ExitCode {
    let line = skep_cli::ClientLine::parse();
    skep_cli::run(line.command, line.flags).await.into()
}
