//! Watches one answer closely and makes a [`Plan`] of it, so that the floor sends what the daemon sends.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use crate::clock::now_ns;
use crate::handoff::{ClientKind, Clients, Door, data_segments_in, hand_over, knock};
use crate::plan::{Plan, Send};
use crate::player::default_payload;
use crate::sse::SseCounter;

/// A plan, and how many events it has.
#[derive(Debug)]
pub struct Probed {
    /// What came.
    pub plan: Plan,
    /// Events in it, `[DONE]` included.
    pub events: u32,
}

/// Plays one TCP client after another and watches the second, when the daemon is warm. `interval` is what the daemon
/// was asked to wait between events.
pub fn probe(
    door: &Door,
    payload: Option<&[u8]>,
    interval: Duration,
    limit: Duration,
) -> io::Result<Probed> {
    let default = default_payload(0);
    let payload = payload.unwrap_or(default.as_bytes());
    one_answer(door, payload, interval, limit)?;
    one_answer(door, payload, interval, limit)
}

fn one_answer(
    door: &Door,
    payload: &[u8],
    interval: Duration,
    limit: Duration,
) -> io::Result<Probed> {
    let (mine, theirs) = Clients::new(ClientKind::Tcp, 0)?.make(0, None)?;
    let until = hand_over(&knock(door)?, payload, theirs.as_fd())? + limit.as_nanos() as u64;
    drop(theirs);
    let mut plan = Plan { sends: Vec::new() };
    let mut counter = SseCounter::default();
    let (mut slot, mut last_ns, mut sends_before) = (0, None, 0);
    let mut buf = vec![0; 64 * 1024];
    loop {
        let read = read_before(&mine, &mut buf, until)?;
        if read == 0 {
            break;
        }
        let (now, sends_so_far) = (now_ns(), data_segments_in(mine.as_raw_fd()).unwrap_or(0));
        if let Some(last) = last_ns {
            slot += ((now - last) as f64 / interval.as_nanos() as f64).round() as u32;
        }
        last_ns = Some(now);
        counter.feed(&buf[..read]);
        let text = std::str::from_utf8(&buf[..read])
            .map_err(|e| io::Error::other(format!("not UTF-8: {e}")))?;
        let sends = sends_so_far.saturating_sub(sends_before).max(1) as usize;
        sends_before = sends_so_far;
        plan.sends.extend(
            split(text, sends)
                .into_iter()
                .map(|text| Send { slot, text }),
        );
    }
    if counter.status != Some(200) || !counter.done {
        return Err(io::Error::other(format!(
            "the daemon's answer is not a whole stream: status {:?}, {} events, [DONE] {}",
            counter.status,
            counter.events,
            if counter.done { "seen" } else { "not seen" }
        )));
    }
    Ok(Probed {
        plan,
        events: counter.events,
    })
}

/// Cuts what one read brought into as many sends as the kernel counted. Where the cuts were cannot be seen from
/// outside; they are put behind blank lines, the last ones first.
fn split(text: &str, sends: usize) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = text;
    while parts.len() + 1 < sends {
        let inner = rest.trim_end_matches('\n');
        let blank = |end: &str| inner.rfind(end).map(|at| at + end.len());
        let Some(cut) = blank("\n\n").max(blank("\r\n\r\n")) else {
            break;
        };
        parts.push(rest[cut..].to_owned());
        rest = &rest[..cut];
    }
    parts.push(rest.to_owned());
    parts.reverse();
    parts
}

fn read_before(fd: &OwnedFd, buf: &mut [u8], until_ns: u64) -> io::Result<usize> {
    let left_ms = until_ns.saturating_sub(now_ns()) / 1_000_000;
    let timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) => Err(Errno::ETIMEDOUT.into()),
        Ok(_) => Ok(recv(fd.as_raw_fd(), buf, MsgFlags::MSG_DONTWAIT)?),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn one_send_stays_whole_and_several_are_cut_behind_blank_lines() {
        let text = "HTTP/1.1 200 OK\r\n\r\ndata: a\n\ndata: [DONE]\n\n";
        assert_eq!(split(text, 1), [text]);
        assert_eq!(
            split(text, 2),
            ["HTTP/1.1 200 OK\r\n\r\ndata: a\n\n", "data: [DONE]\n\n"]
        );
        assert_eq!(
            split(text, 3),
            ["HTTP/1.1 200 OK\r\n\r\n", "data: a\n\n", "data: [DONE]\n\n"]
        );
        assert_eq!(split("data: a\n\n", 3), ["data: a\n\n"]);
    }
}
