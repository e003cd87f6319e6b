//! What the caller has not taken yet. Its size is fixed: what is told again is merged.

use streaming_daemon_border::Status;

use crate::handoff::Reason;
use crate::records::{ACCEPT_FAILED, DRAINED, HANDOFF_REFUSED, HEAD_BYTES, Records};

/// One for each reason, and one for each of the other two kinds.
const COUNT: usize = Reason::COUNT + 2;

/// See the module.
#[derive(Default)]
pub struct Report {
    records: [Option<[u32; 6]>; COUNT],
    /// With what the thread has ended.
    pub failure: Option<Status>,
}

impl Report {
    pub fn is_empty(&self) -> bool {
        self.records.iter().all(Option::is_none)
    }

    pub fn refuse(&mut self, reason: Reason, bytes: u32, micros: u32, detail: u32) {
        let record = &mut self.records[reason as usize - 1];
        let count = record.map_or(1, |words| words[4].saturating_add(1));
        *record = Some([HANDOFF_REFUSED, bytes, reason as u32, micros, count, detail]);
    }

    pub fn accept_failed(&mut self, errno: u32) {
        self.records[COUNT - 2] = Some([ACCEPT_FAILED, 0, errno, 0, 0, 0]);
    }

    pub fn drained(&mut self) {
        self.records[COUNT - 1] = Some([DRAINED, 0, 0, 0, 0, 0]);
    }

    /// Moves as many records as there is room for. `TOO_SMALL`: for none.
    pub fn take(&mut self, records: &mut Records) -> Result<(), Status> {
        self.failure.map_or(Ok(()), Err)?;
        if records.room() < HEAD_BYTES && !self.is_empty() {
            return Err(Status::TOO_SMALL);
        }
        for record in &mut self.records {
            if records.room() >= HEAD_BYTES {
                record.take().inspect(|words| records.push(*words, &[]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(report: &mut Report, room: usize) -> Result<Vec<u32>, Status> {
        let mut buffer = vec![0; room];
        let mut records = Records::new(&mut buffer);
        report.take(&mut records)?;
        let written = records.written;
        Ok(buffer[..written]
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect())
    }

    #[test]
    fn refusals_of_one_reason_are_one_record_with_the_words_of_the_last() {
        let mut report = Report::default();
        assert!(report.is_empty());
        for bytes in 1..=1000 {
            report.refuse(Reason::NoFd, bytes, 2, 3);
        }
        report.refuse(Reason::ReceiveError, 7, 8, 9);
        assert!(!report.is_empty());
        let expected = [[1, 1000, 1, 2, 1000, 3], [1, 7, 10, 8, 1, 9]];
        assert_eq!(take(&mut report, 288), Ok(expected.concat()));
        assert!(report.is_empty());
        assert_eq!(take(&mut report, 0), Ok(vec![]));
    }

    #[test]
    fn everything_fits_into_what_the_contract_says_and_whole_records_into_less() {
        let full = || {
            let mut report = Report::default();
            report.records[..Reason::COUNT].fill(Some([1; 6]));
            report.accept_failed(24);
            report.drained();
            report
        };
        let mut report = full();
        assert_eq!(take(&mut report, 288).unwrap().len(), 72);
        assert!(report.is_empty());
        let mut report = full();
        assert_eq!(take(&mut report, 23), Err(Status::TOO_SMALL));
        let piecemeal: Vec<u32> = (0..12).flat_map(|_| take(&mut report, 47).unwrap()).collect();
        assert_eq!(piecemeal[60..], [3, 0, 24, 0, 0, 0, 2, 0, 0, 0, 0, 0]);
        assert!(report.is_empty());
    }

    #[test]
    fn a_failure_is_all_there_is() {
        let mut report = Report { failure: Some(Status::PANIC), ..Report::default() };
        report.drained();
        assert_eq!(take(&mut report, 288), Err(Status::PANIC));
    }
}
