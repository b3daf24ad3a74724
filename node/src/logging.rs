//! What is logged, and what never is.

use tracing_subscriber::EnvFilter;

/// What is logged where `SKEP_LOG` says nothing. openraft tells more than an operator wants to know.
const LOGGED: &str = "info,openraft=error";

/// Whatever is asked for: below warnings these write whole requests to engines and their answers, with join tokens and
/// passwords in them. Each module by its name, because the most exact one of several wishes counts.
const DISCREET: &[&str] = &["bollard=warn", "bollard::docker=warn", "bollard::read=warn"];

/// One event per line, to stderr.
pub(crate) fn to_stderr() {
    let filter = filter(std::env::var("SKEP_LOG").ok().as_deref());
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
}

/// What is asked for, as far as it can be read and may be told.
fn filter(asked: Option<&str>) -> EnvFilter {
    let wished = asked.and_then(|asked| EnvFilter::try_new(asked).ok());
    let wished = wished.unwrap_or_else(|| EnvFilter::new(LOGGED));
    DISCREET.iter().filter_map(|cap| cap.parse().ok()).fold(wished, EnvFilter::add_directive)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody has panicked").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(asked: Option<&str>) -> String {
        let to = Written::default();
        let writer = to.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter(asked))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "bollard::docker", "an answer with a secret");
            tracing::trace!(target: "bollard::read", "another with a secret");
            tracing::warn!(target: "bollard::docker", "a warning");
            tracing::debug!(target: "skep_hub", "something");
        });
        String::from_utf8(to.0.lock().expect("nobody has panicked").clone()).expect("is text")
    }

    #[test]
    fn what_engines_say_is_not_logged_however_loudly_it_is_asked_for() {
        for asked in [
            None,
            Some("trace"),
            Some("bollard=trace"),
            Some("debug,bollard::docker=trace,bollard::read=trace"),
        ] {
            let written = written(asked);
            assert!(!written.contains("secret"), "{asked:?}: {written}");
            assert!(written.contains("a warning"), "{asked:?}: {written}");
        }
    }

    #[test]
    fn what_is_asked_for_is_logged_and_what_cannot_be_read_is_as_if_nothing_was() {
        assert!(written(Some("debug")).contains("something"));
        for asked in [None, Some("what=is=this")] {
            assert!(!written(asked).contains("something"), "{asked:?}");
        }
    }
}
