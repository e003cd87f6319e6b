//! What the caller has not taken yet. Its size is fixed: what is told again is merged.

use streaming_daemon_border::Status;

use crate::handoff::Reason;
use crate::records::{HEAD_BYTES, Records, Refusals};

/// See the module.
#[derive(Default)]
pub struct Report {
    /// By reason; those with a count.
    refusals: [Refusals; Reason::COUNT],
    pub accept_failed: Option<i32>,
    pub is_drained: bool,
    /// With what the thread has ended.
    pub failure: Option<Status>,
}

impl Report {
    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        !self.is_drained && self.accept_failed.is_none() && self.refusals.iter().all(|one| one.count == 0)
    }

    /// One more refusal.
    pub fn refuse(&mut self, reason: Reason, refusal: Refusals) {
        let place = &mut self.refusals[reason as usize - 1];
        let count = place.count.saturating_add(refusal.count);
        *place = Refusals { count, ..refusal };
    }

    /// Moves as many records as there is room for.
    ///
    /// # Errors
    /// `TOO_SMALL`: for none. The failure of the thread.
    pub fn take(&mut self, records: &mut Records) -> Result<(), Status> {
        self.failure.map_or(Ok(()), Err)?;
        if records.room() < HEAD_BYTES && !self.is_empty() {
            return Err(Status::TOO_SMALL);
        }
        for (reason, refusals) in (1..).zip(&mut self.refusals) {
            if refusals.count > 0 && records.room() >= HEAD_BYTES {
                records.refused(reason, &std::mem::take(refusals));
            }
        }
        if records.room() >= HEAD_BYTES {
            self.accept_failed.take().inspect(|errno| records.accept_failed(*errno));
        }
        if records.room() >= HEAD_BYTES && std::mem::take(&mut self.is_drained) {
            records.drained();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: u32) -> Refusals {
        Refusals { count: 1, bytes, micros: 2, detail: 3 }
    }

    fn take(report: &mut Report, room: usize) -> Result<Vec<u32>, Status> {
        let mut buffer = vec![0; room];
        let mut records = Records::new(&mut buffer);
        report.take(&mut records)?;
        let written = records.written();
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
            report.refuse(Reason::NoFd, refusal(bytes));
        }
        report.refuse(Reason::ReceiveError, refusal(7));
        assert!(!report.is_empty());
        let expected = [[1, 1000, 1, 2, 1000, 3], [1, 7, 10, 2, 1, 3]];
        assert_eq!(take(&mut report, 288), Ok(expected.concat()));
        assert!(report.is_empty());
        assert_eq!(take(&mut report, 0), Ok(vec![]));
    }

    #[test]
    fn everything_fits_into_what_the_contract_says_and_whole_records_into_less() {
        let mut report = Report::default();
        let fill = |report: &mut Report| {
            for reason in
                [Reason::NoFd, Reason::ManyFds, Reason::NotASocket, Reason::NotStream, Reason::Listening]
            {
                report.refuse(reason, refusal(1));
            }
            let more =
                [Reason::PayloadTruncated, Reason::ControlTruncated, Reason::Timeout, Reason::UidNotAllowed];
            for reason in more.into_iter().chain([Reason::ReceiveError]) {
                report.refuse(reason, refusal(1));
            }
            (report.accept_failed, report.is_drained) = (Some(24), true);
        };
        fill(&mut report);
        assert_eq!(take(&mut report, 288).unwrap().len(), 72);
        assert!(report.is_empty());
        fill(&mut report);
        assert_eq!(take(&mut report, 23), Err(Status::TOO_SMALL));
        let piecemeal: Vec<u32> = (0..12).flat_map(|_| take(&mut report, 47).unwrap()).collect();
        assert_eq!(piecemeal.chunks_exact(6).map(|record| record[0]).collect::<Vec<_>>()[10..], [3, 2]);
        assert!(report.is_empty());
    }

    #[test]
    fn a_failure_is_all_there_is() {
        let mut report = Report { failure: Some(Status::PANIC), is_drained: true, ..Report::default() };
        assert_eq!(take(&mut report, 288), Err(Status::PANIC));
    }
}
