//! Settings and where each comes from: flag, `POSTERN_*` variable, user file, system file, default.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use store::config::{self, ConfigError};
use store::files::FileError;
use ticket_format::report::{Report, exit};

/// Where the agent of a node listens.
pub const SYSTEM_SOCKET: &str = "/run/postern/agent.sock";
/// The system's file.
pub const SYSTEM_FILE: &str = "/etc/postern/config.toml";

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

macro_rules! settings {
    ($($(#[doc = $doc:literal])* $variant:ident $field:ident $name:literal $variable:literal;)*) => {
        /// A setting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Setting {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Setting {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in files and of its flag.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its environment variable.
            #[must_use]
            pub fn variable(self) -> &'static str {
                match self { $(Self::$variant => $variable,)* }
            }

            /// What it says, one clause.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii(),)* }
            }
        }

        /// A configuration file.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct File {
            $($field: Option<Text>,)*
        }

        impl File {
            fn get(&self, setting: Setting) -> Option<String> {
                match setting { $(Setting::$variant => self.$field.as_ref().map(|text| text.0.clone()),)* }
            }
        }

        /// What flags say.
        #[derive(Clone, Debug, Default)]
        pub struct Flags {
            $($(#[doc = $doc])* pub $field: Option<String>,)*
        }

        impl Flags {
            fn get(&self, setting: Setting) -> Option<String> {
                match setting { $(Setting::$variant => self.$field.clone(),)* }
            }
        }
    };
}

settings! {
    /// Directory of the node's state
    State state "state" "POSTERN_STATE";
    /// The wallet, as FILE:PATH
    Wallet wallet "wallet" "POSTERN_WALLET";
    /// How results are printed: text, json or jsonl
    Format format "format" "POSTERN_FORMAT";
    /// Colour: auto, always or never
    Color color "color" "POSTERN_COLOR";
    /// How long to wait and try again, such as 30s or 5m
    Timeout timeout "timeout" "POSTERN_TIMEOUT";
    /// Directory of <region>.pem files in place of the built-in AWS keys
    RegionKeys region_keys "region-keys" "POSTERN_REGION_KEYS";
    /// URL of the S3 server
    S3 s3 "s3" "POSTERN_S3";
    /// Objects that move at one time
    Parallel parallel "parallel" "POSTERN_PARALLEL";
    /// The agent's socket
    Agent agent "agent" "POSTERN_AGENT";
}

/// A value as files may have it: text or a number.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Raw")]
struct Text(String);

#[derive(Deserialize)]
#[serde(untagged, expecting = "text or a number")]
enum Raw {
    Text(String),
    Number(u64),
}

impl From<Raw> for Text {
    fn from(raw: Raw) -> Self {
        match raw {
            Raw::Text(text) => Self(text),
            Raw::Number(number) => Self(number.to_string()),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag,
    /// An environment variable.
    Variable(&'static str),
    /// A file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value, not yet read.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Everything that was set.
pub struct Settings<'a> {
    flags: Flags,
    env: Env<'a>,
    files: Vec<(PathBuf, File)>,
    root: bool,
}

impl<'a> Settings<'a> {
    /// Reads the user's and the system's file, where they are.
    ///
    /// # Errors
    /// A file that does not hold, with its line.
    pub fn read(flags: Flags, env: Env<'a>, system: &Path, root: bool) -> Result<Self, Report> {
        let mut files = Vec::new();
        for path in user_file(env).into_iter().chain([system.to_owned()]) {
            match config::read::<File>(&path) {
                Ok(file) => files.push((path, file)),
                Err(ConfigError::File(FileError::Missing(_))) => {}
                Err(error) => {
                    return Err(
                        Report::new(exit::CONFIG, "the configuration cannot be used")
                            .why(error)
                            .next("`postern help environment` lists the settings"),
                    );
                }
            }
        }
        Ok(Self {
            flags,
            env,
            files,
            root,
        })
    }

    /// The first value that was set; an empty variable counts as unset.
    #[must_use]
    pub fn find(&self, setting: Setting) -> Option<Found> {
        if let Some(value) = self.flags.get(setting) {
            return Some(Found {
                value,
                origin: Origin::Flag,
            });
        }
        let variable = setting.variable();
        if let Some(value) = self.variable(variable) {
            return Some(Found {
                value,
                origin: Origin::Variable(variable),
            });
        }
        self.files.iter().find_map(|(path, file)| {
            let value = file.get(setting)?;
            let origin = Origin::File(path.clone());
            Some(Found { value, origin })
        })
    }

    /// The value in force, default included; none for a setting that has no default here.
    #[must_use]
    pub fn effective(&self, setting: Setting) -> Option<Found> {
        self.find(setting).or_else(|| {
            let value = match setting {
                Setting::State => self.default_state()?.display().to_string(),
                Setting::Wallet => format!("FILE:{}", self.default_wallet()?.display()),
                Setting::Format => "text".to_owned(),
                Setting::Color => "auto".to_owned(),
                Setting::Parallel => "4".to_owned(),
                Setting::Agent => self.default_agent(),
                Setting::Timeout | Setting::RegionKeys | Setting::S3 => return None,
            };
            let origin = Origin::Default;
            Some(Found { value, origin })
        })
    }

    /// Reads a value.
    ///
    /// # Errors
    /// It cannot be read; a flag is wrong usage, everything else wrong configuration.
    pub fn parse<T>(
        &self,
        setting: Setting,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Report> {
        let Some(found) = self.effective(setting) else {
            return Ok(None);
        };
        let failed = |why| {
            let code = match found.origin {
                Origin::Flag => exit::USAGE,
                _ => exit::CONFIG,
            };
            let what = format!("{} (from {}) cannot be used", setting.name(), found.origin);
            Report::new(code, what).why(why)
        };
        read(&found.value).map(Some).map_err(failed)
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    fn default_state(&self) -> Option<PathBuf> {
        if self.root {
            return Some("/var/lib/postern".into());
        }
        let base = self.variable("XDG_STATE_HOME").map(PathBuf::from);
        let home = || Some(Path::new(&self.variable("HOME")?).join(".local/state"));
        Some(base.or_else(home)?.join("postern"))
    }

    /// A user's own, or the node's.
    fn default_agent(&self) -> String {
        let base = self.variable("XDG_RUNTIME_DIR").filter(|_| !self.root);
        base.map_or(SYSTEM_SOCKET.to_owned(), |base| {
            let path = Path::new(&base).join("postern/agent.sock");
            path.display().to_string()
        })
    }

    /// On a file system in memory, which does not outlive the instance; never in `/tmp`.
    fn default_wallet(&self) -> Option<PathBuf> {
        if self.root {
            return Some("/run/postern/0/wallet".into());
        }
        let base = self.variable("XDG_RUNTIME_DIR")?;
        Some(Path::new(&base).join("postern/wallet"))
    }
}

fn user_file(env: Env<'_>) -> Option<PathBuf> {
    let variable = |name: &str| env(name).filter(|value| !value.is_empty());
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || Some(Path::new(&variable("HOME")?).join(".config"));
    Some(base.or_else(home)?.join("postern/config.toml"))
}

/// Reads a duration: `500ms`, `30s`, `5m`, `1h30m`, or whole seconds.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let read = text.parse::<jiff::SignedDuration>().ok();
    let read = read.and_then(|duration| Duration::try_from(duration).ok());
    read.ok_or_else(|| format!("expected a duration such as 30s, 5m or 1h, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings<'a>(
        flags: Flags,
        env: Env<'a>,
        dir: &Path,
        user: &str,
        system: &str,
    ) -> Result<Settings<'a>, Report> {
        let user_dir = dir.join("postern");
        std::fs::create_dir_all(&user_dir).unwrap();
        std::fs::write(user_dir.join("config.toml"), user).unwrap();
        let system_file = dir.join("system.toml");
        std::fs::write(&system_file, system).unwrap();
        Settings::read(flags, env, &system_file, false)
    }

    fn origin_of(
        flag: Option<&str>,
        variable: Option<&str>,
        user: &str,
        system: &str,
    ) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().display().to_string();
        let env = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some(home.clone()),
            "POSTERN_S3" => variable.map(str::to_owned),
            _ => None,
        };
        let flags = Flags {
            s3: flag.map(str::to_owned),
            ..Flags::default()
        };
        let settings = settings(flags, &env, dir.path(), user, system).unwrap();
        let found = settings.effective(Setting::S3).unwrap();
        let origin = found.origin.to_string().replace(&home, "HOME");
        (found.value, origin)
    }

    #[test]
    fn a_flag_goes_before_a_variable_before_the_users_file_before_the_systems() {
        let (user, system) = ("s3 = \"user\"\n", "s3 = \"system\"\n");
        let of = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
        assert_eq!(
            origin_of(Some("flag"), Some("var"), user, system),
            of("flag", "flag")
        );
        assert_eq!(
            origin_of(None, Some("var"), user, system),
            of("var", "POSTERN_S3")
        );
        assert_eq!(
            origin_of(None, Some(""), user, system),
            of("user", "HOME/postern/config.toml")
        );
        assert_eq!(
            origin_of(None, None, "", system),
            of("system", "HOME/system.toml")
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().display().to_string();
        let env = |name: &str| (name == "XDG_CONFIG_HOME").then(|| home.clone());
        let user = "s3 = \"x\"\nregion-key = \"y\"\n";
        let report = settings(Flags::default(), &env, dir.path(), user, "")
            .err()
            .unwrap();
        assert_eq!(report.exit, exit::CONFIG);
        let why = report.why.unwrap();
        assert!(
            why.ends_with("line 2: unknown key \"region-key\", did you mean \"region-keys\"?"),
            "{why}"
        );
    }

    #[test]
    fn without_any_setting_state_and_wallet_lie_where_they_should() {
        let env = |name: &str| match name {
            "HOME" => Some("/home/u".to_owned()),
            "XDG_RUNTIME_DIR" => Some("/run/user/7".to_owned()),
            _ => None,
        };
        let value = |root, setting| {
            let settings =
                Settings::read(Flags::default(), &env, Path::new("/nonexistent"), root).unwrap();
            let found = settings.effective(setting).unwrap();
            assert_eq!(found.origin, Origin::Default);
            found.value
        };
        assert_eq!(value(false, Setting::State), "/home/u/.local/state/postern");
        assert_eq!(
            value(false, Setting::Wallet),
            "FILE:/run/user/7/postern/wallet"
        );
        assert_eq!(value(true, Setting::State), "/var/lib/postern");
        assert_eq!(value(true, Setting::Wallet), "FILE:/run/postern/0/wallet");
    }

    #[test]
    fn without_a_runtime_directory_there_is_no_default_wallet() {
        let env = |name: &str| (name == "HOME").then(|| "/home/u".to_owned());
        let settings =
            Settings::read(Flags::default(), &env, Path::new("/nonexistent"), false).unwrap();
        assert_eq!(settings.effective(Setting::Wallet), None);
    }

    #[test]
    fn durations_are_read_in_the_usual_forms() {
        for (text, millis) in [
            ("2", 2_000),
            ("500ms", 500),
            ("30s", 30_000),
            ("1h30m", 5_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "soon", "-1s", "1x"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_flag_is_usage_and_a_wrong_variable_is_configuration() {
        let env = |name: &str| (name == "POSTERN_TIMEOUT").then(|| "soon".to_owned());
        let code = |flags| {
            let settings = Settings::read(flags, &env, Path::new("/nonexistent"), true).unwrap();
            settings.parse(Setting::Timeout, duration).unwrap_err().exit
        };
        assert_eq!(code(Flags::default()), exit::CONFIG);
        let timeout = Some("never".to_owned());
        let flags = Flags {
            timeout,
            ..Flags::default()
        };
        assert_eq!(code(flags), exit::USAGE);
    }
}
