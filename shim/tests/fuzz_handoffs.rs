//! Random senders: whatever they send, each connection is one handoff that is delivered or refused, for a reason that
//! fits, and no descriptor is left.
//!
//! A batch is of one seed, which a failure prints: `FUZZ_SEED=… cargo test --test fuzz_handoffs` is that batch alone,
//! and `FUZZ_INPUTS=10000000` in its place a long run. A crate for this would shrink what fails; a batch is 16 senders
//! of at most five messages, and is printed whole.
#![allow(missing_docs)]

#[path = "fuzz_handoffs/senders.rs"]
mod senders;
mod support;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Instant, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::getuid;
use senders::*;
use support::*;

const INPUTS: u64 = 10_000;
const SENDERS: usize = 16;
/// After so many everything is taken down, and the descriptors are counted.
const BATCHES_A_ROUND: usize = 32;
/// Past it those that say nothing are refused, so that no batch has to wait for a time-out.
const PATIENT: Policy = Policy { handoff_buffer_bytes: LIMIT as u32, max_pending: 4, ..POLICY };
/// Here they have to, and anybody can be cut off.
const HASTY: Policy = Policy { handoff_timeout_ms: 1, max_pending: 64, ..PATIENT };

/// Printed where a batch fails.
struct Batch {
    seed: u64,
    mode: Mode,
    senders: Vec<Sender>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("FUZZ_SEED={} is a batch of {:?}:\n{:#?}", self.seed, self.mode, self.senders);
        }
    }
}

struct Rig {
    things: Things,
    reactor: Reactor,
    acceptor: Acceptor,
    directory: Directory,
}

impl Rig {
    fn new() -> Rig {
        let directory = Directory::new();
        let acceptor = Acceptor::new(PATIENT);
        for kind in BOTH {
            acceptor.listen(kind, &directory.path(&kind.to_string()));
        }
        acceptor.ear();
        Rig { things: Things::new(), reactor: acceptor.reactor(), acceptor, directory }
    }

    fn batch(&self, seed: u64) {
        let mut random = Random(seed);
        let mode = match random.below(16) {
            0 | 1 => Mode::Hasty,
            2 => Mode::Strangers,
            _ => Mode::Patient,
        };
        let senders = (0..SENDERS).map(|_| Sender::random(&mut random)).collect();
        let mut batch = Batch { seed, mode, senders };
        let policy = if mode == Mode::Hasty { HASTY } else { PATIENT };
        let uid = getuid().as_raw() + u32::from(mode == Mode::Strangers);
        assert_eq!(self.acceptor.configure(policy, &[uid]), 0);
        let path = |kind: u32| self.directory.path(&kind.to_string());
        let mut open = Vec::new();
        for sender in &mut batch.senders {
            open.extend(sender.send(&self.things, &path(sender.kind)));
        }
        if mode != Mode::Hasty {
            open.clear();
        }
        let seen = self.until_told(SENDERS, &mut random);
        drop(open);
        let (mut least, mut most) = (BTreeMap::new(), BTreeMap::new());
        for sender in &batch.senders {
            let verdicts = sender.verdicts(mode);
            if verdicts.len() == 1 {
                *least.entry(verdicts.first().unwrap().clone()).or_insert(0) += 1;
            }
            for verdict in verdicts {
                *most.entry(verdict).or_insert(0) += 1;
            }
        }
        for verdict in seen.keys().chain(least.keys()) {
            let count = |of: &BTreeMap<Verdict, u32>| of.get(verdict).copied().unwrap_or(0);
            let expected = count(&least)..=count(&most);
            assert!(expected.contains(&count(&seen)), "{verdict:?} is not {expected:?} times in {seen:?}");
        }
    }

    /// Takes what comes until that many handoffs have been delivered or refused, and is done with the clients.
    fn until_told(&self, handoffs: usize, random: &mut Random) -> BTreeMap<Verdict, u32> {
        let begin = Instant::now();
        let (mut seen, mut told) = (BTreeMap::new(), 0);
        while told < handoffs {
            for record in self.acceptor.take() {
                let Told::Refused { reason, count, .. } = record else { panic!("{record:?}") };
                *seen.entry((reason, vec![])).or_insert(0) += count;
                told += count as usize;
            }
            for event in self.reactor.take() {
                let Event::Handoff(Handoff { client, reason, payload, .. }) = event else { continue };
                if reason == 0 {
                    *seen.entry((0, payload)).or_insert(0) += 1;
                    told += 1;
                } else {
                    assert_eq!(payload, b"");
                }
                if random.below(2) == 0 || self.reactor.send(client, b"bye", END) != 3 {
                    assert_eq!(self.reactor.close_client(client), 0);
                }
            }
            assert!(begin.elapsed() < PATIENCE, "{told} of {handoffs} were told: {seen:?}");
            thread::yield_now();
        }
        assert_eq!(told, handoffs, "{seen:?}");
        seen
    }

    /// Behind a last handoff nothing is left: they go in order.
    fn end(self, random: &mut Random) {
        assert_eq!(self.acceptor.configure(PATIENT, &[]), 0);
        let connection = connect(&self.directory.path("0"), SEQPACKET);
        // ETOOMANYREFS: of those that were passed some still wait for their close.
        eventually("the last one is sent", || {
            try_sendmsg(&connection, b"last", &[&self.things.unix.1]).is_ok()
        });
        assert_eq!(self.until_told(1, random), [((0, b"last".to_vec()), 1)].into());
        assert_eq!((self.acceptor.take(), self.acceptor.active()), (vec![], 0));
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whatever_senders_do_each_handoff_is_delivered_or_refused_once() {
    // A batch can pass thousands, and both ends are this process.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let (one, inputs) = (number("FUZZ_SEED"), number("FUZZ_INPUTS").unwrap_or(INPUTS));
    let mut left = if one.is_some() { 1 } else { inputs.div_ceil(SENDERS as u64) as usize };
    let mut seed = UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    while left > 0 {
        let _no_leak = no_leak();
        let rig = Rig::new();
        for _ in 0..left.min(BATCHES_A_ROUND) {
            // Odd, since xorshift makes nothing of 0.
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15) | 1;
            rig.batch(one.unwrap_or(seed));
            left -= 1;
        }
        rig.end(&mut Random(seed));
    }
}
