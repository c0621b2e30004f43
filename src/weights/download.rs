//! Reading files to their end, for what is kept on the way (`Hooks::fetch` stores it) and not for what they hold.

use crate::error::{Error, Result};
use crate::weights::source::ByteSource;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Reads all `sources` to their end, one after the other, and drops what it reads. `report(loaded, total)` is called after
/// each piece, in bytes; `total` is 0 while a size is not known. Returns the bytes of all files.
///
/// # Errors
/// As [`ByteSource::read_at`], and what `report` returns.
pub async fn read_to_end(
    sources: &mut [Box<dyn ByteSource>],
    report: &mut dyn FnMut(u64, u64) -> Result<()>,
) -> Result<u64> {
    let mut total = Some(0u64);
    for source in &mut *sources {
        total = total.zip(source.size().await?).map(|(sum, size)| sum.saturating_add(size));
    }
    let mut buffer = vec![0; PIECE];
    let mut loaded = 0u64;
    for source in sources {
        let mut at = 0u64;
        loop {
            let size = source.size().await?;
            let left = size.map_or(PIECE as u64, |size| size.saturating_sub(at));
            // At most PIECE.
            let part = usize::try_from(left.min(PIECE as u64)).unwrap_or(PIECE);
            if part == 0 {
                break;
            }
            let read = match source.read_at(at, &mut buffer[..part]).await {
                Ok(()) => part as u64,
                // The size was not known, and the file has ended.
                Err(Error::Truncated { actual, .. }) if size.is_none() => {
                    loaded += actual.saturating_sub(at);
                    break;
                }
                Err(error) => return Err(error),
            };
            at += read;
            loaded += read;
            report(loaded, total.unwrap_or(0))?;
        }
    }
    report(loaded, loaded)?;
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::SliceSource;

    fn read(sources: Vec<SliceSource>) -> (u64, Vec<(u64, u64)>) {
        let mut sources: Vec<Box<dyn ByteSource>> =
            sources.into_iter().map(|source| Box::new(source) as Box<dyn ByteSource>).collect();
        let mut reports = Vec::new();
        let mut report = |loaded, total| {
            reports.push((loaded, total));
            Ok(())
        };
        let read = pollster::block_on(read_to_end(&mut sources, &mut report)).unwrap();
        (read, reports)
    }

    #[test]
    fn every_byte_is_read_and_told() {
        let long = PIECE + 17;
        let (bytes, reports) =
            read(vec![SliceSource::new("a", vec![1; long]), SliceSource::new("b", vec![2; 5])]);
        let all = long as u64 + 5;
        assert_eq!(bytes, all);
        assert_eq!(reports[0], (PIECE as u64, all));
        assert_eq!(reports.last(), Some(&(all, all)));
    }

    #[test]
    fn a_size_that_is_not_known_shows_at_the_end() {
        for length in [0, 5, PIECE, PIECE + 17] {
            let (bytes, reports) = read(vec![SliceSource::new("a", vec![1; length]).without_size()]);
            assert_eq!(bytes, length as u64);
            assert_eq!(reports.last(), Some(&(bytes, bytes)));
        }
    }
}
