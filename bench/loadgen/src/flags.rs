//! The values of flags: each is taken once, and what is wrong with it is said with its name and what is expected.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::socket::{SockType, UnixAddr};

use crate::args::Daemon;
use crate::handoff::{Door, Front};
use crate::target::Launch;

/// Flags that were given and not asked for yet.
#[derive(Default)]
pub struct Flags {
    /// Name and value of each.
    pub given: Vec<(String, String)>,
}

impl Flags {
    /// The flag's value, the last one if it was given more than once.
    pub fn take(&mut self, flag: &str) -> Option<String> {
        self.take_all(flag).pop()
    }

    pub fn take_all(&mut self, flag: &str) -> Vec<String> {
        let (found, left) = std::mem::take(&mut self.given)
            .into_iter()
            .partition(|(name, _)| name == flag);
        self.given = left;
        let found: Vec<(String, String)> = found;
        found.into_iter().map(|(_, value)| value).collect()
    }

    pub fn optional<T: FromStr + PartialOrd + std::fmt::Display>(
        &mut self,
        flag: &str,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<Option<T>, String> {
        let Some(text) = self.take(flag) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(format!(
                "--{flag} {text:?}: expected a number of {} to {}",
                range.start(),
                range.end()
            )),
        }
    }

    pub fn number(
        &mut self,
        flag: &str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, String> {
        Ok(self.optional(flag, range)?.unwrap_or(default))
    }

    /// The value's meaning; the first choice is the default.
    pub fn one_of<T: Copy>(&mut self, flag: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.take(flag).unwrap_or_else(|| choices[0].0.to_owned());
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let found = choices
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value);
        found.ok_or_else(|| format!("--{flag} {text:?}: expected {}", names.join(" or ")))
    }

    pub fn door(&mut self) -> Result<Door, String> {
        let path = self
            .take("socket")
            .ok_or("--socket is missing: the path of the handoff socket")?;
        let kind = self.one_of(
            "type",
            &[
                ("seqpacket", SockType::SeqPacket),
                ("stream", SockType::Stream),
            ],
        )?;
        let address =
            UnixAddr::new(path.as_str()).map_err(|e| format!("--socket {path:?}: {e}"))?;
        Ok(Door { kind, address })
    }

    pub fn front(&mut self) -> Result<Option<Front>, String> {
        let Some(url) = self.take("front") else {
            return Ok(None);
        };
        Front::new(&url)
            .map(Some)
            .ok_or_else(|| format!("--front {url:?}: expected http://ADDRESS:PORT/PATH"))
    }

    pub fn interval(&mut self) -> Result<Duration, String> {
        Ok(Duration::from_millis(
            self.number("interval-ms", 300, 1..=3_600_000)? as u64,
        ))
    }

    pub fn payload(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(text) = self.take("payload") else {
            return Ok(None);
        };
        if text.is_empty() {
            return Ok(Some(vec![0]));
        }
        // Sent as it is, so that a daemon's answer to bad data can be measured too.
        Ok(Some(text.into_bytes()))
    }

    pub fn daemon(&mut self) -> Result<Daemon, String> {
        let mut pids = Vec::new();
        for text in self.take_all("daemon-pid") {
            let pid = text.parse::<i32>().ok().filter(|pid| *pid > 0);
            pids.push(pid.ok_or_else(|| format!("--daemon-pid {text:?}: expected a process id"))?);
        }
        let command = self.take("command");
        let instances = self.optional("instances", 1..=1000)?;
        let log = self.take("daemon-log").map(PathBuf::from);
        let start_limit = Duration::from_secs(self.number("start-limit-secs", 20, 1..=600)? as u64);
        match command {
            Some(_) if !pids.is_empty() => {
                Err("--command and --daemon-pid exclude each other".into())
            }
            Some(command) => Ok(Daemon::Started(Launch {
                command,
                instances,
                log,
                start_limit,
            })),
            None if instances.is_some() => Err("--instances needs --command".into()),
            None => Ok(Daemon::Attached(pids)),
        }
    }
}
