use super::*;

const LOG: FileId = FileId::log(1);

/// What a disk has told: how many operations are done, and why the next one failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    done: u32,
    failed: Option<DiskError>,
}

/// Has a disk carry out `ops`, all from one moment on.
fn run(disk: &mut Disk, lane: Lane, ops: &[DiskOp], data: &[u8], now_us: u64) -> Heard {
    disk.push(lane, &DiskWork { ops: ops.to_vec(), data: data.to_vec() }, 0);
    let (mut now_us, mut told) = (now_us, Heard::default());
    while let Some(end_us) = disk.begin(lane, now_us) {
        now_us = end_us;
        disk.end(lane, now_us);
        while let Some(news) = disk.tell(lane) {
            match news {
                Told::Done(ops) => told.done += ops,
                Told::Failed(error) => told.failed = told.failed.or(Some(error)),
            }
        }
    }
    told
}

fn append(file: FileId, bytes: usize) -> DiskOp {
    DiskOp::Append { file, bytes: u32::try_from(bytes).expect("few") }
}

fn all(disk: &mut Disk, file: FileId) -> Vec<u8> {
    disk.read(file, 0, u32::MAX, u64::MAX).expect("no reads fail").to_vec()
}

#[test]
fn what_is_carried_out_is_told_and_there() {
    let mut disk = Disk::new(1, 0, 500);
    let ops = [append(LOG, 3), append(LOG, 2), DiskOp::Sync { file: LOG }, DiskOp::SyncDir];
    assert_eq!(run(&mut disk, Lane::Log, &ops, b"abcde", 0), Heard { done: 4, failed: None });
    let ops = [append(FileId::part(2), 2), DiskOp::Finish { file: FileId::snapshot(2) }, DiskOp::Remove { file: LOG }];
    assert_eq!(run(&mut disk, Lane::Snapshot, &ops, b"xy", 0).done, 3);
    assert_eq!(disk.list(), [(FileId::snapshot(2), 2)]);
    assert_eq!(all(&mut disk, FileId::snapshot(2)), b"xy");
    assert_eq!(disk.take_misuse(), None);
}

#[test]
fn what_was_asked_for_by_a_time_is_done_once_its_last_operation_is() {
    let mut disk = Disk::new(1, 0, 500);
    let sync = DiskWork { ops: vec![DiskOp::SyncDir, DiskOp::SyncDir], data: Vec::new() };
    let caught_up = |disk: &Disk| [9, 10, 19, 20].map(|at_us| disk.caught_up_us(Lane::Log, at_us));
    disk.push(Lane::Log, &sync, 10);
    let first_us = disk.begin(Lane::Log, 10).expect("it has work");
    disk.push(Lane::Log, &sync, 20);
    disk.end(Lane::Log, first_us);
    assert_eq!(caught_up(&disk), [Some(0), None, None, None], "one of four is done");
    let mut ends_us = Vec::new();
    while let Some(end_us) = disk.begin(Lane::Log, ends_us.last().copied().unwrap_or(first_us)) {
        disk.end(Lane::Log, end_us);
        ends_us.push(end_us);
    }
    assert_eq!(caught_up(&disk), [Some(0), Some(ends_us[0]), Some(ends_us[0]), Some(ends_us[2])]);
    disk.push(Lane::Log, &sync, 5_000_000);
    disk.stop(false);
    assert_eq!(disk.caught_up_us(Lane::Log, 5_000_000), Some(0), "what an earlier run asked for is nobody's");
}

#[test]
fn a_killed_process_leaves_what_was_written_and_a_crashed_machine_what_was_synced() {
    for seed in 0..50 {
        let mut disk = Disk::new(seed, 0, 500);
        let ops = [append(LOG, 3), DiskOp::Sync { file: LOG }, DiskOp::SyncDir, append(LOG, 3)];
        run(&mut disk, Lane::Log, &ops, b"abcdef", 0);
        disk.stop(false);
        assert_eq!(all(&mut disk, LOG), b"abcdef");
        disk.stop(true);
        assert!(all(&mut disk, LOG).starts_with(b"abc"));
    }
}

#[test]
fn of_what_was_being_written_a_part_is_there_and_of_what_waited_nothing() {
    let mut lengths: Vec<_> = (0..100)
        .map(|seed| {
            let mut disk = Disk::new(seed, 0, 500);
            disk.push(Lane::Log, &DiskWork { ops: vec![append(LOG, 3), append(LOG, 3)], data: b"abcdef".to_vec() }, 0);
            let run = disk.run();
            assert!(disk.begin(Lane::Log, 0).is_some());
            disk.stop(false);
            assert_ne!(disk.run(), run, "what ends now is told to nobody");
            assert_eq!(disk.begin(Lane::Log, 0), None);
            all(&mut disk, LOG).len()
        })
        .collect();
    lengths.sort_unstable();
    lengths.dedup();
    assert_eq!(lengths, [0, 1, 2, 3]);
}

#[test]
fn a_full_disk_takes_a_part_and_then_nothing_until_it_is_resumed() {
    let mut parts = 0;
    for seed in 0..50 {
        let mut disk = Disk::new(seed, 0, 500);
        run(&mut disk, Lane::Log, &[append(LOG, 1)], b"a", 0);
        disk.fill(1_000_000);
        let told = run(&mut disk, Lane::Log, &[append(LOG, 3), append(LOG, 3)], b"bcdefg", 0);
        if told.failed.is_none() {
            continue;
        }
        assert_eq!(told.failed, Some(DiskError::Full));
        let bytes = all(&mut disk, LOG);
        parts += usize::from(bytes.len() > 1);
        let told = run(&mut disk, Lane::Log, &[append(LOG, 1)], b"z", 2_000_000);
        assert_eq!((told, all(&mut disk, LOG)), (Heard::default(), bytes.clone()));
        let told = run(&mut disk, Lane::Log, &[DiskOp::Resume, append(LOG, 1)], b"z", 2_000_000);
        assert_eq!((told.done, all(&mut disk, LOG)), (2, [bytes, b"z".to_vec()].concat()));
    }
    assert!(parts > 10, "{parts}");
}

#[test]
fn what_fails_fails_as_what_it_is() {
    let failed = |what, ops: &[DiskOp]| {
        let mut disk = Disk::new(3, 0, 500);
        run(&mut disk, Lane::Log, &[append(LOG, 1)], b"a", 0);
        disk.fail(what, 1_000_000);
        // Some get through; not eight in a row.
        (0..8).find_map(|_| run(&mut disk, Lane::Log, ops, b"", 0).failed)
    };
    assert_eq!(failed(Failing::Write, &[DiskOp::Remove { file: LOG }]), Some(DiskError::Write));
    assert_eq!(failed(Failing::Sync, &[DiskOp::Sync { file: LOG }]), Some(DiskError::Sync));
    assert_eq!(failed(Failing::Sync, &[DiskOp::SyncDir]), Some(DiskError::Sync));
    assert_eq!(failed(Failing::Sync, &[DiskOp::Finish { file: FileId::snapshot(2) }]), None);
    assert_eq!(failed(Failing::Write, &[DiskOp::Sync { file: LOG }]), None);
}

#[test]
fn a_read_may_fail_for_a_while() {
    let mut disk = Disk::new(4, 0, 500);
    run(&mut disk, Lane::Log, &[append(LOG, 64)], &[7; 64], 0);
    disk.fail(Failing::Read, 1_000);
    let failed = (0..64).filter(|at| disk.read(LOG, *at, 1, 0).is_err()).count();
    assert!((10..54).contains(&failed), "{failed}");
    assert!((0..64).all(|at| disk.read(LOG, at, 1, 1_000).is_ok()));
}

#[test]
fn a_slow_disk_syncs_late() {
    let mut disk = Disk::new(5, 0, 500);
    run(&mut disk, Lane::Log, &[append(LOG, 1)], b"a", 0);
    disk.slow(3_000_000, 10);
    let sync = DiskWork { ops: vec![DiskOp::Sync { file: LOG }; 2], data: Vec::new() };
    disk.push(Lane::Log, &sync, 0);
    let end_us = disk.begin(Lane::Log, 0).expect("there is something to do");
    assert!(end_us >= 3_000_000);
    assert_eq!(disk.begin(Lane::Log, 0), None, "one after the other");
    disk.end(Lane::Log, end_us);
    assert!(disk.begin(Lane::Log, end_us).is_some_and(|next_us| next_us < end_us + 10_000));
}

#[test]
fn a_turned_bit_is_counted_when_it_is_read() {
    let mut disk = Disk::new(6, 0, 500);
    assert_eq!(disk.flip(1), None, "nothing is there");
    run(&mut disk, Lane::Log, &[append(LOG, 100)], &[0; 100], 0);
    assert_eq!(disk.flip(1), None, "nothing is synced");
    run(&mut disk, Lane::Log, &[DiskOp::Sync { file: LOG }, DiskOp::SyncDir], &[], 0);
    assert_eq!(disk.flip(1).map(|(file, _)| file), Some(LOG));
    disk.stop(true);
    let bytes = all(&mut disk, LOG);
    assert_eq!(bytes.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(disk.wrong_reads(), 1);
    assert!(disk.flip(1).is_some(), "the same again");
    disk.stop(false);
    assert_eq!((all(&mut disk, LOG), disk.wrong_reads()), (vec![0; 100], 0));
}

#[test]
fn no_run_appends_to_the_file_of_another() {
    let mut disk = Disk::new(7, 0, 500);
    run(&mut disk, Lane::Log, &[append(LOG, 1)], b"a", 0);
    assert_eq!(disk.take_misuse(), None);
    disk.stop(false);
    run(&mut disk, Lane::Log, &[append(LOG, 1)], b"a", 0);
    assert!(disk.take_misuse().is_some());
    run(&mut disk, Lane::Log, &[DiskOp::Finish { file: FileId::snapshot(9) }], &[], 0);
    assert!(disk.take_misuse().is_some());
}

#[test]
fn the_same_story_is_told_of_the_same_disk() {
    let tell = |node| {
        let mut disk = Disk::new(8, node, 500);
        let ops = [append(LOG, 3_000), DiskOp::Sync { file: LOG }, DiskOp::SyncDir, append(LOG, 9_000)];
        run(&mut disk, Lane::Log, &ops, &[1; 12_000], 0);
        disk.stop(true);
        all(&mut disk, LOG)
    };
    assert_eq!(tell(0), tell(0));
    assert!((1..9).any(|node| tell(node) != tell(0)));
}
