//! Batches of many entries, several of one client among them, and what comes in between.
#![allow(missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use streaming_daemon_shim::{shim_client_close, shim_reactor_close, shim_send_batch};
use support::{
    BAD_HANDLE, END, Event, PATIENCE, POLICY, SEQPACKET, STREAM, Setup, pair, recv_to_end, try_recv,
};

/// So many clients, with their browsers, which go away before what serves them.
fn setup(clients: usize) -> (Setup, Vec<(OwnedFd, u32)>) {
    let setup = Setup::new(SEQPACKET, POLICY);
    let admit = |_| {
        let (browser, passed) = pair(STREAM);
        (browser, setup.admit(passed))
    };
    let browsers = (0..clients).map(admit).collect();
    (setup, browsers)
}

/// What is sent to each of many, so that bytes that come to the wrong one are seen.
fn own(client: u32) -> Vec<u8> {
    format!("<{client}>").into_bytes()
}

#[test]
fn many_clients_each_get_their_own_bytes_and_results() {
    let (setup, browsers) = setup(700);
    let texts: Vec<Vec<u8>> = browsers.iter().map(|(_, client)| own(*client)).collect();
    let mut batch = Vec::new();
    for ((_, client), text) in browsers.iter().zip(&texts) {
        batch.push((*client, &text[..], 0));
        if client % 50 == 0 {
            batch.push((88_888, &b"nobody"[..], 0));
        }
    }
    let expected: Vec<i32> = batch
        .iter()
        .map(|(client, text, _)| if *client == 88_888 { BAD_HANDLE } else { text.len() as i32 })
        .collect();
    for _ in 0..2 {
        assert_eq!(setup.reactor.send_batch(&batch), expected);
    }
    let ends: Vec<_> = browsers.iter().map(|(_, client)| (*client, &b"."[..], END)).collect();
    assert_eq!(setup.reactor.send_batch(&ends), [1; 700]);
    for ((browser, _), text) in browsers.iter().zip(&texts) {
        assert_eq!(recv_to_end(browser), [&text[..], &text[..], b"."].concat());
    }
}

#[test]
fn many_entries_of_one_client_arrive_in_their_order() {
    let (setup, browsers) = setup(3);
    let texts: Vec<Vec<u8>> = (0..100).map(own).collect();
    let mut batch = Vec::new();
    for text in &texts {
        batch.extend(browsers[..2].iter().map(|(_, client)| (*client, &text[..], 0)));
    }
    for (n, (_, client)) in browsers.iter().enumerate() {
        batch.insert(70 * n, (*client, b"", 0));
        batch.push((*client, b"", END));
    }
    let expected: Vec<i32> = batch.iter().map(|(_, text, _)| text.len() as i32).collect();
    assert_eq!(setup.reactor.send_batch(&batch), expected);
    let all = texts.concat();
    let received: Vec<_> = browsers.iter().map(|(browser, _)| recv_to_end(browser)).collect();
    assert_eq!(received, [all.clone(), all, Vec::new()]);
}

#[test]
fn after_a_short_entry_the_client_s_further_ones_wait_and_others_do_not() {
    let (setup, browsers) = setup(2);
    let [(browser, client), (quick, other)] = &browsers[..] else { panic!() };
    let block = vec![b'x'; 1 << 22];
    let results = setup.reactor.send_batch(&[
        (*client, &block, 0),
        (*other, b"1", 0),
        (*client, b"y", 0),
        (*client, b"", END),
        (*other, b"2", END),
        (*client, b"z", END),
    ]);
    let sent = results[0] as usize;
    assert!((1..1 << 22).contains(&sent), "{sent}");
    assert_eq!(results[1..], [1, 0, 0, 1, 0]);
    assert_eq!(recv_to_end(quick), b"12");
    let mut received = Vec::new();
    while received.len() < sent {
        received.extend(try_recv(browser, PATIENCE).unwrap());
    }
    assert_eq!(setup.reactor.event(), Event::Writable { client: *client });
    assert_eq!(setup.reactor.send(*client, b"z", END), 1);
    received.extend(recv_to_end(browser));
    assert_eq!(received, [&block[..sent], b"z"].concat());
}

#[test]
fn an_end_in_the_middle_of_a_batch_leaves_the_number_to_nobody() {
    let (setup, browsers) = setup(2);
    let [(browser, client), (_, other)] = &browsers[..] else { panic!() };
    let results = setup.reactor.send_batch(&[
        (*client, b"a", 0),
        (*other, b"1", 0),
        (*client, b"b", END),
        (*client, b"c", 0),
        (*client, b"", END),
    ]);
    assert_eq!(results, [1, 1, 1, BAD_HANDLE, BAD_HANDLE]);
    assert_eq!(recv_to_end(browser), b"ab");
    assert_eq!(setup.reactor.close_client(*client), BAD_HANDLE);
}

/// Sends the batch again and again, until every client of it is closed or the reactor is. Returns how often it
/// has been sent to each.
fn send_until_closed(handle: u32, clients: &[u32], flags: u32) -> BTreeMap<u32, usize> {
    let (mut data, mut words) = (Vec::new(), Vec::new());
    for client in clients {
        let text = own(*client);
        words.extend([*client, data.len() as u32, text.len() as u32, flags]);
        data.extend(text);
    }
    let (mut results, mut counts) = (vec![0; clients.len()], BTreeMap::new());
    loop {
        // SAFETY: pointers and lengths belong to live values.
        let status = unsafe {
            shim_send_batch(
                handle,
                words.as_ptr(),
                clients.len() as u32,
                data.as_ptr(),
                data.len() as u32,
                results.as_mut_ptr(),
            )
        };
        if status == BAD_HANDLE || results.iter().all(|result| *result == BAD_HANDLE) {
            return counts;
        }
        assert_eq!(status, 0);
        for (client, result) in clients.iter().zip(&results) {
            match *result {
                BAD_HANDLE | 0 => {}
                sent if sent as usize == own(*client).len() => *counts.entry(*client).or_default() += 1,
                other => panic!("client {client}: {other}"),
            }
        }
    }
}

/// The numbers of descriptors that are closed are given again at once: what is sent must not go to them.
#[test]
fn a_client_closed_during_a_batch_gets_whole_entries_and_nobody_else_its_bytes() {
    let (setup, browsers) = setup(300);
    let handle = setup.reactor.handle;
    let clients: Vec<u32> = browsers.iter().map(|(_, client)| *client).collect();
    let sender = {
        let clients = clients.clone();
        thread::spawn(move || send_until_closed(handle, &clients, 0))
    };
    let mut received = BTreeMap::new();
    let mut strangers = Vec::new();
    for (browser, client) in &browsers {
        let first = try_recv(browser, PATIENCE).unwrap();
        assert_eq!(shim_client_close(handle, *client), 0);
        strangers.push(pair(STREAM));
        received.insert(*client, [first, recv_to_end(browser)].concat());
    }
    let counts = sender.join().unwrap();
    for client in clients {
        assert_eq!(received[&client], own(client).repeat(counts[&client]));
    }
    for (one, other) in &strangers {
        assert_eq!(try_recv(one, Duration::ZERO), Err(-libc::ETIMEDOUT));
        assert_eq!(try_recv(other, Duration::ZERO), Err(-libc::ETIMEDOUT));
    }
}

/// Two threads send to the same clients in opposite orders, and the reactor is closed meanwhile.
#[test]
fn batches_from_two_threads_and_a_close_do_not_wait_for_one_another() {
    for flags in [0, END] {
        let (setup, browsers) = setup(400);
        let (handle, (done, finished)) = (setup.reactor.handle, mpsc::channel());
        let forth: Vec<u32> = browsers.iter().map(|(_, client)| *client).collect();
        let back: Vec<u32> = forth.iter().rev().copied().collect();
        for clients in [forth, back] {
            let done = done.clone();
            thread::spawn(move || done.send(send_until_closed(handle, &clients, flags).len()).unwrap());
        }
        let (browser, client) = &browsers[0];
        let first = try_recv(browser, PATIENCE).unwrap();
        assert_eq!(first[..own(*client).len()], own(*client));
        thread::spawn(move || {
            shim_reactor_close(handle);
            done.send(0).unwrap();
        });
        for _ in 0..3 {
            finished.recv_timeout(PATIENCE).expect("neither waits for ever");
        }
    }
}
