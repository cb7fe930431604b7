//! Many threads append to one log.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{sync::Arc, thread};

use decidable_wal::{Entry, Log, Memory, Options, ScanOptions, scan};

#[test]
fn what_sixteen_appenders_were_promised_is_in_the_reopened_log_in_order() {
    let storage = Arc::new(Memory::new());
    let options = Options {
        log_id: [7; 16],
        create: true,
        ..Options::default()
    };
    let (log, _) = Log::open(storage.clone(), options.clone(), |_| Ok(())).unwrap();
    let log = Arc::new(log);
    let promised: Vec<(u64, Vec<u8>)> = thread::scope(|scope| {
        let appenders: Vec<_> = (0..16_u8)
            .map(|appender| {
                let log = log.clone();
                scope.spawn(move || {
                    (0..200_u8)
                        .map(|turn| {
                            let payload = vec![appender, turn];
                            let entry = Entry {
                                kind: 16,
                                time_ns: 0,
                                payload: payload.clone().into(),
                                private: None,
                            };
                            let position = log.append(&[entry]).unwrap();
                            log.wait(position.last, None).unwrap();
                            (position.last, payload)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        appenders
            .into_iter()
            .flat_map(|appender| appender.join().unwrap())
            .collect()
    });
    drop(log);

    let mut read = Vec::new();
    let (log, opened) = Log::open(storage.clone(), options, |record| {
        read.push((record.seq, record.payload.to_vec()));
        Ok(())
    })
    .unwrap();
    assert_eq!(opened.records, 1 + 16 * 200);
    let mut promised = promised;
    promised.sort();
    assert_eq!(read[1..], promised);
    for appender in 0..16_u8 {
        let turns: Vec<u8> = promised
            .iter()
            .filter(|(_, bytes)| bytes[0] == appender)
            .map(|(_, bytes)| bytes[1])
            .collect();
        assert_eq!(turns, (0..200).collect::<Vec<_>>());
    }
    let head = log.close().unwrap();
    let scanned = scan(
        &*storage,
        &ScanOptions {
            head: Some(head),
            ..ScanOptions::default()
        },
        |_| Ok(()),
    )
    .unwrap();
    assert_eq!((scanned.records, scanned.head_found, scanned.tail), (3203, true, None));
}
