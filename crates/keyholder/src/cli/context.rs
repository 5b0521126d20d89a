//! What every command starts from: flags, environment, terminal, and the configuration when it is asked for.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use kh_core::{Code, Sha256};
use kh_telemetry::logging::{DEFAULT_FILTER, Form, LogHandle};

use super::{
    Globals,
    logging::{self, ServerLog},
};
use crate::{
    compose::{Paths, ProxyVariables},
    config::{self, Config, LogFormat},
    environment::Environment,
    output::{Failure, Terminal},
};

/// The file's name in the working folder and in the XDG config folder.
const FILE_NAME: &str = "keyholder.toml";

/// What every command starts from.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) globals: Globals,
    pub(crate) terminal: Terminal,
    pub(crate) environment: Environment,
}

/// A configuration with its place and the places of its state.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// The file; none when there is none and defaults hold.
    pub(crate) file: Option<PathBuf>,
    pub(crate) paths: Paths,
    pub(crate) warnings: config::Mistakes,
    /// SHA-256 of the file's bytes: its name in the audit log.
    pub(crate) digest: Sha256,
    /// What the environment says about proxies.
    pub(crate) proxies: ProxyVariables,
}

impl Loaded {
    /// The file's name for messages.
    pub(crate) fn file_name(&self) -> String {
        self.file.as_ref().map_or_else(|| "the built-in defaults".to_owned(), |file| file.display().to_string())
    }
}

impl Context {
    pub(crate) fn new(globals: Globals, terminal: Terminal, environment: Environment) -> Self {
        Self { globals, terminal, environment }
    }

    /// Where the configuration is, if there is one. A file that was named must exist.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        let named = self.globals.config.clone().or_else(|| self.environment.path("KEYHOLDER_CONFIG"));
        if named.is_some() {
            return named;
        }
        let here = PathBuf::from(FILE_NAME);
        if self.environment.folder.join(&here).is_file() {
            return Some(here);
        }
        let xdg = self.environment.xdg("XDG_CONFIG_HOME", ".config")?.join("keyholder").join(FILE_NAME);
        xdg.is_file().then_some(xdg)
    }

    /// The configuration, or the defaults when there is no file.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        let file = self.config_file();
        let bytes = match &file {
            Some(file) => read_config(file)?,
            None => Vec::new(),
        };
        self.parse(file, &bytes)
    }

    /// The configuration from the file that it came from before, wherever another one may be by now.
    pub(crate) fn load_again(&self, file: &Path) -> Result<Loaded, Failure> {
        self.parse(Some(file.to_owned()), &read_config(file)?)
    }

    /// The configuration; its absence is a failure.
    pub(crate) fn load_file(&self) -> Result<Loaded, Failure> {
        let loaded = self.load()?;
        if loaded.file.is_some() {
            return Ok(loaded);
        }
        Err(Failure::new(Code::CONFIG_INVALID, "there is no configuration")
            .hint("`keyholder init` writes one; `keyholder config example` shows everything there is")
            .hint("or name one with --config FILE or KEYHOLDER_CONFIG"))
    }

    /// A configuration that was made up, as if it stood in `file`; the environment's state folder does not count.
    pub(crate) fn load_text(&self, file: &Path, bytes: &[u8]) -> Result<Loaded, Failure> {
        self.parse_with(Some(file.to_owned()), bytes, None)
    }

    /// A configuration that is about to be written to `file`, as later commands will read it.
    pub(crate) fn load_draft(&self, file: &Path, bytes: &[u8]) -> Result<Loaded, Failure> {
        self.parse(Some(file.to_owned()), bytes)
    }

    fn parse(&self, file: Option<PathBuf>, bytes: &[u8]) -> Result<Loaded, Failure> {
        self.parse_with(file, bytes, self.state_override())
    }

    fn parse_with(&self, file: Option<PathBuf>, bytes: &[u8], state: Option<PathBuf>) -> Result<Loaded, Failure> {
        let parsed = config::parse(bytes).map_err(|mistakes| {
            let name = file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            Failure::mistakes(&name, &mistakes, self.terminal.colors_errors())
        })?;
        let base = file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let paths = Paths::of(&parsed.config, &self.environment.folder.join(base), state, &self.environment)?;
        Ok(Loaded {
            config: parsed.config,
            file,
            paths,
            warnings: parsed.warnings,
            digest: Sha256::of(bytes),
            proxies: ProxyVariables::of(&self.environment),
        })
    }

    /// The state folder of a configuration `file` of which nothing but `[state] dir` is known.
    pub(crate) fn state_folder(&self, file: &Path, dir: Option<PathBuf>) -> Option<PathBuf> {
        let base = self.environment.folder.join(file.parent().unwrap_or(Path::new("")));
        let configured = dir.map(|dir| base.join(dir));
        self.state_override().or(configured).or_else(|| Paths::default_state(&self.environment))
    }

    /// The state folder of the flag or the environment, from the working folder.
    fn state_override(&self) -> Option<PathBuf> {
        let given = self.globals.state.clone().or_else(|| self.environment.path("KEYHOLDER_STATE"))?;
        Some(self.environment.folder.join(given))
    }

    /// Turns logging on at `usual`, for a command without a configuration.
    pub(crate) fn start_logging_at(&self, usual: &str) -> Result<(), Failure> {
        let form = self.log_form(None)?;
        logging::start(self.filter().as_deref().unwrap_or(usual), form)
    }

    /// Turns logging on for the rest of a server, which may log into a file, until the answer is dropped.
    pub(crate) fn start_server_log(&self, loaded: &Loaded) -> Result<ServerLog, Failure> {
        let log = &loaded.config.log;
        let (form, file) = (self.log_form(log.format)?, log.file.as_ref().map(|file| loaded.paths.resolve(file)));
        let filter = self.filter().or_else(|| log.level.clone());
        logging::start_server(filter.as_deref().unwrap_or(DEFAULT_FILTER), form, file.as_deref())
    }

    /// The same for a server without a configuration.
    pub(crate) fn start_plain_server_log(&self) -> Result<ServerLog, Failure> {
        let form = self.log_form(None)?;
        logging::start_server(self.filter().as_deref().unwrap_or(DEFAULT_FILTER), form, None)
    }

    /// Takes the level of a changed configuration over; a flag or variable still beats it.
    pub(crate) fn change_level(&self, log: &LogHandle, config: &Config) -> Result<(), Failure> {
        let usual = config.log.level.as_deref();
        let filter = self.filter();
        let filter = filter.as_deref().or(usual).unwrap_or(DEFAULT_FILTER);
        log.set_filter(filter).map_err(|error| logging::failure(&error))
    }

    fn filter(&self) -> Option<String> {
        self.globals.log.clone().or_else(|| self.environment.text("KEYHOLDER_LOG"))
    }

    fn log_form(&self, usual: Option<LogFormat>) -> Result<Form, Failure> {
        let format = match (self.globals.log_format, self.environment.text("KEYHOLDER_LOG_FORMAT").as_deref()) {
            (Some(format), _) => Some(format),
            (None, Some("json")) => Some(LogFormat::Json),
            (None, Some("human")) => Some(LogFormat::Human),
            (None, Some(_)) => return Err(Failure::usage("KEYHOLDER_LOG_FORMAT is neither human nor json")),
            (None, None) => None,
        };
        Ok(logging::form(format.or(usual).unwrap_or_default(), self.terminal.colors_errors()))
    }

    /// A runtime for one command's waiting.
    pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::bug("cannot start a runtime").caused_by(&error))
    }
}

/// Reads the file, at most one byte more than a configuration may have.
fn read_config(file: &Path) -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(Code::CONFIG_INVALID, format!("cannot read the configuration {}", file.display()))
            .caused_by(&error)
            .hint("name it with --config FILE or KEYHOLDER_CONFIG")
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(config::CONFIG_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    std::fs::File::open(file).map_err(cannot)?.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}
