//! The rules by which the agent serves jobs (`spec/agent.md`, AGT-2).

use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use store::config::{self, ConfigError};
use store::files;
use ticket_format::Context;
use ticket_format::report::{Report, exit};
use ticket_format::ticket::{Action, Actions};

use super::caller::Caller;
use super::held::{HeldOptions, JobSpec};
use crate::cli::settings::duration;

/// Where they are, unless said otherwise.
pub const FILE: &str = "/etc/postern/agent.toml";
/// Largest list of users that is read, in bytes.
const USERS: u64 = 1024 * 1024;
/// Life of a job's tickets, in seconds, unless its table says another.
const LIFE: u64 = 3_600;

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read, or a line does not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Others could change it.
    #[error("{path} can be changed by others than root and the agent's user: {why}")]
    Open {
        /// File or directory.
        path: PathBuf,
        /// By whom.
        why: String,
    },
    /// A bound of what is kept does not hold.
    #[error("{path}: {why}")]
    Bound {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A table does not hold.
    #[error("{path}, job {name:?}: {why}")]
    Job {
        /// Which file.
        path: PathBuf,
        /// Which table.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl RulesError {
    /// The error as a person reads it.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::new(
            exit::CONFIG,
            "the agent does not start: its rules cannot be used",
        )
        .why(self)
        .next("correct the file; spec/agent.md, AGT-2, says what it holds")
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cache_age: Option<String>,
    cache_count: Option<usize>,
    batch_window: Option<String>,
    job: Vec<Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    user: Option<User>,
    unit: Option<String>,
    datasets: Vec<String>,
    actions: Vec<String>,
    #[serde(default)]
    require: BTreeMap<String, String>,
    budget: Option<u64>,
    life: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a user's name or number")]
enum User {
    Number(u32),
    Name(String),
}

/// One table.
#[derive(Clone, Debug)]
struct Job {
    uid: Option<u32>,
    unit: Option<String>,
    spec: JobSpec,
}

/// Longest time for which a DEK is kept, most DEKs that are, and longest wait for others (AGT-7, AGT-8).
const CACHE_AGE: Duration = Duration::from_secs(86_400);
const CACHE_COUNT: usize = 1_000_000;
const BATCH_WINDOW: Duration = Duration::from_secs(1);

/// What the agent keeps, as far as the file says it.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    cache_age: Option<Duration>,
    cache_count: Option<usize>,
    batch_window: Option<Duration>,
}

/// The rules.
#[derive(Clone, Debug)]
pub struct Rules {
    bounds: Bounds,
    jobs: Vec<Job>,
}

impl Rules {
    /// Reads a file that nobody but root and the agent's user could have written. Names of users are those of
    /// the list of users, such as `/etc/passwd`.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn read(path: &Path, users: &Path) -> Result<Self, RulesError> {
        let me = rustix::process::geteuid().as_raw();
        let missing = |source| RulesError::Open {
            path: path.to_owned(),
            why: format!("it cannot be looked at: {source}"),
        };
        // rule: AGT-2
        let real = std::fs::canonicalize(path).map_err(&missing)?;
        for place in real.ancestors() {
            let found = std::fs::metadata(place).map_err(missing)?;
            closed(&found, me).map_err(|why| RulesError::Open {
                path: place.to_owned(),
                why,
            })?;
        }
        let file: File = config::read(&real)?;
        let bounds = bounds(&file).map_err(|why| RulesError::Bound {
            path: path.to_owned(),
            why,
        })?;
        let users = files::read_bounded(users, USERS).unwrap_or_default();
        let users = String::from_utf8_lossy(&users);
        let mut names = HashSet::new();
        let mut jobs = Vec::with_capacity(file.job.len());
        for table in file.job {
            let name = table.name.clone();
            let bad = |why| RulesError::Job {
                path: path.to_owned(),
                name: name.clone(),
                why,
            };
            if !names.insert(name.clone()) {
                return Err(bad("the name is used twice".to_owned()));
            }
            jobs.push(job(table, &users).map_err(bad)?);
        }
        Ok(Self { bounds, jobs })
    }

    /// What the agent keeps, where the file says it in place of these.
    #[must_use]
    pub fn bounded(&self, otherwise: HeldOptions) -> HeldOptions {
        // rule: AGT-7, AGT-8
        let Bounds {
            cache_age,
            cache_count,
            batch_window,
        } = self.bounds;
        HeldOptions {
            cache_age: cache_age.unwrap_or(otherwise.cache_age),
            cache_count: cache_count.unwrap_or(otherwise.cache_count),
            batch_window: batch_window.unwrap_or(otherwise.batch_window),
            ..otherwise
        }
    }

    /// What a caller is served, if anything.
    #[must_use]
    pub fn job(&self, caller: &Caller) -> Option<JobSpec> {
        // rule: AGT-2
        let meets = |job: &&Job| {
            let user = job.uid.is_none_or(|uid| uid == caller.uid);
            let unit = job.unit.is_none() || job.unit == caller.unit;
            user && unit
        };
        let found = self.jobs.iter().find(meets)?;
        let mut spec = found.spec.clone();
        spec.uid = caller.uid;
        Some(spec)
    }
}

fn bounds(file: &File) -> Result<Bounds, String> {
    let within = |name: &str, text: &Option<String>, most: Duration| {
        let Some(text) = text else { return Ok(None) };
        let read = duration(text).map_err(|why| format!("{name}: {why}"))?;
        match read <= most {
            true => Ok(Some(read)),
            false => Err(format!("{name} is at most {most:?}")),
        }
    };
    if file.cache_count.is_some_and(|count| count > CACHE_COUNT) {
        return Err(format!("cache_count is at most {CACHE_COUNT}"));
    }
    Ok(Bounds {
        cache_age: within("cache_age", &file.cache_age, CACHE_AGE)?,
        cache_count: file.cache_count,
        batch_window: within("batch_window", &file.batch_window, BATCH_WINDOW)?,
    })
}

/// Whether nobody but root and this user can change a file, or what a directory holds.
fn closed(found: &Metadata, me: u32) -> Result<(), String> {
    let owner = found.uid();
    if owner != 0 && owner != me {
        return Err(format!("it is user {owner}'s"));
    }
    // In a sticky directory others cannot put a file in the place of one that is not theirs.
    let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
    if found.mode() & 0o022 != 0 && !sticky {
        return Err(format!("its mode is {:04o}", found.mode() & 0o7777));
    }
    Ok(())
}

fn job(table: Table, users: &str) -> Result<Job, String> {
    if table.user.is_none() && table.unit.is_none() {
        return Err("it names neither a user nor a unit".to_owned());
    }
    let is_unit = |unit: &String| unit.ends_with(".service") || unit.ends_with(".scope");
    if table.unit.as_ref().is_some_and(|unit| !is_unit(unit)) {
        return Err("its unit's name ends neither in .service nor in .scope".to_owned());
    }
    if table.name.is_empty() || table.datasets.is_empty() {
        return Err("it has no name or no datasets".to_owned());
    }
    let uid = match table.user {
        None => None,
        Some(User::Number(number)) => Some(number),
        Some(User::Name(name)) => {
            let found = uid_of(&name, users);
            Some(found.ok_or_else(|| format!("no user {name:?} is known; say the number"))?)
        }
    };
    let actions = table.actions.iter().map(|word| word.parse());
    let actions = actions.collect::<Result<Vec<Action>, String>>()?;
    let actions = Actions::new(&actions).ok_or("it has no actions")?;
    let require = Context::new(table.require).map_err(|error| error.to_string())?;
    let life = match table.life {
        Some(text) => duration(&text)?.as_secs(),
        None => LIFE,
    };
    let budget = table.budget.unwrap_or(crate::cli::issue::BUDGET);
    if life == 0 || budget == 0 {
        return Err("life and budget are at least 1".to_owned());
    }
    let spec = JobSpec {
        name: table.name,
        // The caller's, where the table does not say it.
        uid: uid.unwrap_or_default(),
        unit: table.unit.clone(),
        datasets: table.datasets,
        actions,
        require,
        budget,
        life,
    };
    Ok(Job {
        uid,
        unit: table.unit,
        spec,
    })
}

/// A user's number in a list as passwd(5) describes it.
fn uid_of(name: &str, users: &str) -> Option<u32> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn write(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("agent.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(dir.join("passwd"), "root:x:0:0::/:/x\nann:x:41:9::/:/x\n").unwrap();
        path
    }

    fn rules(text: &str) -> Result<Rules, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), text);
        Rules::read(&path, &dir.path().join("passwd")).map_err(|error| error.to_string())
    }

    fn job(name: &str, condition: &str) -> String {
        format!(
            "[[job]]\nname = \"{name}\"\n{condition}\ndatasets = [\"d\"]\nactions = [\"decrypt\"]\n"
        )
    }

    #[test]
    fn the_first_table_whose_every_condition_is_met_serves() {
        // rule: AGT-2
        let text = [
            job("both", "user = \"ann\"\nunit = \"a.service\""),
            job("user", "user = 41"),
            job("unit", "unit = \"b.service\""),
        ];
        let rules = rules(&text.concat()).unwrap();
        let of = |uid, unit: Option<&str>| {
            let unit = unit.map(str::to_owned);
            let spec = rules.job(&Caller { uid, unit });
            spec.map(|spec| (spec.name, spec.uid))
        };
        let is = |name: &str, uid| Some((name.to_owned(), uid));
        assert_eq!(of(41, Some("a.service")), is("both", 41));
        assert_eq!(of(41, Some("b.service")), is("user", 41));
        assert_eq!(of(41, None), is("user", 41));
        assert_eq!(of(42, Some("b.service")), is("unit", 42));
        assert_eq!(of(42, Some("a.service")), None);
        assert_eq!(of(42, None), None);
        assert_eq!(of(0, None), None);
    }

    #[test]
    fn tables_that_do_not_hold_are_refused() {
        // rule: AGT-2
        let fails = |text: &str, why: &str| {
            let found = rules(text).unwrap_err();
            assert!(found.contains(why), "{found}");
        };
        fails(&job("x", ""), "neither a user nor a unit");
        let twice = job("x", "user = 1") + &job("x", "user = 2");
        fails(&twice, "the name is used twice");
        fails(&job("x", "user = \"bob\""), "no user \"bob\"");
        fails(
            &job("x", "user = 1\nunti = \"a\""),
            "line 4: unknown key \"unti\", did you mean \"unit\"?",
        );
        fails(&job("x", "user = 1\nbudget = 0"), "at least 1");
        fails(&job("x", "unit = \"train\""), "ends neither in .service");
        fails(
            &job("x", "user = 1").replace("decrypt", "all"),
            "expected decrypt",
        );
    }

    #[test]
    fn what_is_kept_is_what_the_file_says_within_bounds() {
        // rule: AGT-2, AGT-7, AGT-8
        let all = |text: &str| {
            let rules = rules(&(text.to_owned() + &job("x", "user = 1"))).unwrap();
            let options = rules.bounded(HeldOptions::default());
            (
                options.cache_age.as_secs(),
                options.cache_count,
                options.batch_window.as_millis(),
            )
        };
        assert_eq!(all(""), (300, 10_000, 2));
        let text = "cache_age = \"0\"\ncache_count = 7\nbatch_window = \"5ms\"\n";
        assert_eq!(all(text), (0, 7, 5));
        for text in [
            "cache_age = \"25h\"\n",
            "cache_age = \"soon\"\n",
            "cache_count = 1000001\n",
            "batch_window = \"2s\"\n",
            "cache_size = 1\n",
        ] {
            let text = text.to_owned() + &job("x", "user = 1");
            assert!(rules(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_others_can_change_is_refused() {
        // rule: AGT-2
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &job("x", "user = 1"));
        let read = || Rules::read(&path, Path::new("/etc/passwd"));
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        read().unwrap();
        for bits in [0o664, 0o646] {
            mode(&path, bits);
            assert!(matches!(read(), Err(RulesError::Open { .. })), "{bits:o}");
        }
        mode(&path, 0o644);
        mode(dir.path(), 0o777);
        assert!(matches!(read(), Err(RulesError::Open { .. })));
        mode(dir.path(), 0o755);
        read().unwrap();
        // Another's file, which only root can make.
        std::os::unix::fs::chown(&path, Some(41), None).expect("this test runs as root");
        assert!(matches!(read(), Err(RulesError::Open { .. })));
    }
}
