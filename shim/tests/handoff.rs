//! Handoffs that arrive, over both kinds of listeners.
#![allow(missing_docs)]

mod support;

use support::*;

#[test]
fn a_handoff_becomes_a_client_that_is_sent_to() {
    for kind in BOTH {
        let _no_leak = no_leak();
        let directory = Directory::new();
        let path = directory.path("socket");
        let intake = Intake::new(POLICY);
        intake.listen(kind, &path);
        let reactor = intake.reactor();
        let (browser, passed) = pair(STREAM);
        hand_off(&path, kind, br#"{"prompt":"hi"}"#, &passed);
        drop(passed);
        let Event::Handoff {
            client,
            flags,
            uid,
            payload,
            ..
        } = reactor.event()
        else {
            panic!()
        };
        assert_eq!(flags, 4 * kind);
        // SAFETY: getuid has no conditions.
        assert_eq!(uid, unsafe { libc::getuid() });
        assert_eq!(payload, br#"{"prompt":"hi"}"#);
        assert_eq!(intake.active(), 1);
        assert_eq!(
            reactor.send_batch(&[(client, b"one ", 0), (client, b"two", END)]),
            [4, 3]
        );
        assert_eq!(recv_to_end(&browser), b"one two");
        assert_eq!(intake.active(), 0);
        assert_eq!(reactor.send(client, b"late", 0), BAD_HANDLE);
    }
}
