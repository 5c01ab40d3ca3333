//! Set-up of tracing: to stderr, as text or JSON, filtered by `WEIR_LOG`.

use std::fmt;
use std::io;
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

/// The environment variable with the filter, for instance `info,weir_agent::reconcile=debug`.
pub const VARIABLE: &str = "WEIR_LOG";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Changes the filter while the program runs.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl LogHandle {
    /// Replaces the filter.
    ///
    /// Errors: [`LogError::Filter`]; the filter then stays as it was.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        self.filter.reload(parse(filter)?).map_err(|source| LogError::Reload { source })
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        self.filter.with_current(EnvFilter::to_string).unwrap_or_default()
    }
}

/// Starts logging to stderr, filtered by `WEIR_LOG` or, where that is not set or empty, `default_filter`.
///
/// Errors: [`LogError::Filter`], [`LogError::Variable`], [`LogError::Twice`].
pub fn init(format: LogFormat, default_filter: &str) -> Result<LogHandle, LogError> {
    let filter = match std::env::var(VARIABLE) {
        Ok(filter) if !filter.trim().is_empty() => filter,
        Ok(_) | Err(std::env::VarError::NotPresent) => default_filter.to_owned(),
        Err(std::env::VarError::NotUnicode(_)) => return Err(LogError::Variable),
    };
    let (subscriber, handle) = build(format, &filter, io::stderr)?;
    subscriber.try_init().map_err(|source| LogError::Twice { source })?;
    Ok(handle)
}

fn build<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<(Box<dyn Subscriber + Send + Sync>, LogHandle), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match format {
        // a container's log is no terminal
        LogFormat::Text => Box::new(registry.with(layer.with_ansi(false))),
        LogFormat::Json => Box::new(registry.with(layer.json())),
    };
    Ok((subscriber, LogHandle { filter: handle }))
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Neither `text` nor `json`.
    #[error("{0:?} is no log format, use text or json")]
    Format(String),
    /// A filter that cannot be read.
    #[error("log filter {filter:?} cannot be read")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        source: ParseError,
    },
    /// `WEIR_LOG` is not UTF-8.
    #[error("{VARIABLE} is not UTF-8")]
    Variable,
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice {
        /// What tracing says.
        source: TryInitError,
    },
    /// The subscriber is gone.
    #[error("the log filter cannot be changed any more")]
    Reload {
        /// What tracing says.
        source: reload::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    fn logger(
        format: LogFormat,
        filter: &str,
    ) -> (Lines, Box<dyn Subscriber + Send + Sync>, LogHandle) {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, handle) = build(format, filter, move || writer.clone()).unwrap();
        (lines, subscriber, handle)
    }

    #[test]
    fn json_lines_are_objects() {
        let (lines, subscriber, _handle) = logger(LogFormat::Json, "info");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(port = 7, "added");
            tracing::debug!("not shown");
        });
        let text = lines.take();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with('{') && text.contains(r#""port":7"#), "{text}");
    }

    #[test]
    fn the_filter_changes_while_running() {
        let (lines, subscriber, handle) = logger(LogFormat::Text, "warn");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("before");
            assert_eq!(lines.take(), "");
            handle.set_filter("info").unwrap();
            tracing::info!("after");
            assert!(lines.take().contains("after"));
            assert!(matches!(handle.set_filter("a=b=c"), Err(LogError::Filter { .. })));
            assert_eq!(handle.filter(), "info");
        });
    }

    #[test]
    fn formats_by_name() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
        }
        assert!(matches!("xml".parse::<LogFormat>(), Err(LogError::Format(_))));
    }
}
