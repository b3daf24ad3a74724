//! Commands on hosts, through every manager: what goes in, what comes out, and that nothing goes on unseen.

use crate::support::{DEADLINE, Engine, HOST, Manager, RunningAgent};
use skep_hub::{AskError, HostStream, Shown};
use skep_wire::proto::agent::{LogSource, LogsRequest, RunRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

fn command(words: &[&str]) -> RunRequest {
    RunRequest { command: words.iter().map(|word| (*word).to_owned()).collect(), ..RunRequest::default() }
}

async fn send(stream: &mut HostStream, kind: u8, content: &[u8]) {
    stream.write_u8(kind).await.unwrap();
    stream.write_u32(content.len() as u32).await.unwrap();
    stream.write_all(content).await.unwrap();
    stream.flush().await.unwrap();
}

/// The next frame.
async fn frame(stream: &mut HostStream) -> (u8, String) {
    let reading = async {
        let kind = stream.read_u8().await.unwrap();
        let mut content = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut content).await.unwrap();
        (kind, content)
    };
    let (kind, content) = timeout(DEADLINE, reading).await.expect("a frame comes");
    match kind {
        3 => (kind, i32::from_be_bytes(content.try_into().unwrap()).to_string()),
        _ => (kind, String::from_utf8_lossy(&content).into_owned()),
    }
}

/// Everything that is still said, by kind, and the exit code.
async fn rest(stream: &mut HostStream) -> (String, String, String) {
    let (mut output, mut error) = (String::new(), String::new());
    loop {
        match frame(stream).await {
            (1, text) => output += &text,
            (2, text) => error += &text,
            (_, code) => return (output, error, code),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gets_its_input_and_says_what_it_says_through_every_manager() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    for manager in [&first, &second] {
        let script = "cat; echo trouble >&2; exit 7";
        let mut stream = manager.hub.run(HOST, Shown::Command(command(&["sh", "-c", script]))).await.unwrap();
        send(&mut stream, 0, b"one\n").await;
        assert_eq!(frame(&mut stream).await, (1, "one\n".to_owned()), "as it comes, not at the end");
        send(&mut stream, 0, b"").await;
        assert_eq!(rest(&mut stream).await, (String::new(), "trouble\n".to_owned(), "7".to_owned()));
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_terminal_a_command_knows_its_size_and_ctrl_c_reaches_it() {
    let (first, _second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    let script = "trap 'echo caught; exit 3' INT; stty size; read go; stty size; while :; do read more; done";
    let wish = RunRequest { terminal: true, rows: 30, columns: 100, ..command(&["sh", "-c", script]) };
    let mut stream = first.hub.run(HOST, Shown::Command(wish)).await.unwrap();
    assert_eq!(frame(&mut stream).await.1.trim(), "30 100");
    send(&mut stream, 4, &[0, 50, 0, 120]).await;
    send(&mut stream, 0, b"go\r").await;
    let mut said = String::new();
    while !said.contains("50 120") {
        said += &frame(&mut stream).await.1;
    }
    send(&mut stream, 0, &[3]).await;
    let (output, _, code) = rest(&mut stream).await;
    assert!(output.contains("caught"), "{output}");
    assert_eq!(code, "3");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_sees_any_more_is_killed_with_everything_it_has_started() {
    let (first, second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    let wish = command(&["sh", "-c", "sleep 1000 & echo $!; wait"]);
    let mut stream = second.hub.run(HOST, Shown::Command(wish)).await.unwrap();
    let (_, sleeper) = frame(&mut stream).await;
    drop(stream);
    let place = std::path::PathBuf::from(format!("/proc/{}/stat", sleeper.trim()));
    let gone = async {
        // Whoever is dead and not collected yet is gone as well.
        while std::fs::read_to_string(&place).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, gone).await.expect("the sleeper ends");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_says_why_before_any_frame() {
    let (first, _second) = Manager::two().await;
    let engine = Engine::start();
    let agent = RunningAgent::join(&engine, &first, &[&first]);
    first.connected().await;
    for (wish, why) in [
        (Shown::Command(command(&["/no/such/program"])), "No such file"),
        (Shown::Command(RunRequest::default()), "no command"),
        (Shown::Log(LogsRequest { source: LogSource::Unspecified.into(), ..LogsRequest::default() }), "log"),
    ] {
        match first.hub.run(HOST, wish).await {
            Err(AskError::Refused(failure)) => assert!(failure.message.contains(why), "{}", failure.message),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was started"),
        }
    }
    agent.stop().await;
}
