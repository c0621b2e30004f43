//! `strftime_now`: the current date for chat templates.

/// A point in time, taken apart.
struct Civil {
    year: i64,
    month: usize,
    day: u32,
    weekday: usize,
    hour: u32,
    minute: u32,
    second: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The visitor's local time.
#[cfg(target_arch = "wasm32")]
fn now() -> Civil {
    let date = js_sys::Date::new_0();
    Civil {
        year: i64::from(date.get_full_year()),
        month: date.get_month() as usize,
        day: date.get_date(),
        weekday: date.get_day() as usize,
        hour: date.get_hours(),
        minute: date.get_minutes(),
        second: date.get_seconds(),
    }
}

/// UTC: the standard library knows no time zones.
#[cfg(not(target_arch = "wasm32"))]
fn now() -> Civil {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    civil(since.map_or(0, |duration| duration.as_secs()))
}

/// Seconds since 1970 in the Gregorian calendar, by counting: years first, then months.
#[cfg(any(not(target_arch = "wasm32"), test))]
#[allow(clippy::cast_possible_truncation)] // parts of a date and a time of day
fn civil(seconds: u64) -> Civil {
    let days = seconds / 86_400;
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut left) = (1970, days);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let mut month = 0;
    for length in [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    Civil {
        year,
        month,
        day: left as u32 + 1,
        // 1 January 1970 was a Thursday.
        weekday: ((days + 4) % 7) as usize,
        hour: (seconds / 3600 % 24) as u32,
        minute: (seconds / 60 % 60) as u32,
        second: (seconds % 60) as u32,
    }
}

/// The current time in Python's `strftime` notation; unknown directives are left as they are.
pub(crate) fn strftime_now(format: &str) -> String {
    strftime(format, &now())
}

fn strftime(format: &str, time: &Civil) -> String {
    let month = MONTHS.get(time.month).copied().unwrap_or_default();
    let weekday = WEEKDAYS.get(time.weekday).copied().unwrap_or_default();
    let hour12 = (time.hour + 11) % 12 + 1;
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text += &match chars.next() {
            Some('Y') => time.year.to_string(),
            Some('y') => format!("{:02}", time.year % 100),
            Some('m') => format!("{:02}", time.month + 1),
            Some('B') => month.to_owned(),
            Some('b') => month.chars().take(3).collect(),
            Some('d') => format!("{:02}", time.day),
            Some('e') => format!("{:2}", time.day),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday.chars().take(3).collect(),
            Some('H') => format!("{:02}", time.hour),
            Some('I') => format!("{hour12:02}"),
            Some('p') => if time.hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('M') => format!("{:02}", time.minute),
            Some('S') => format!("{:02}", time.second),
            Some('%') => "%".to_owned(),
            Some(other) => format!("%{other}"),
            None => "%".to_owned(),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let at = |seconds| strftime("%a %d %b %Y|%A %B %y|%H:%M:%S|%I%p|%Q%%", &civil(seconds));
        assert_eq!(at(0), "Thu 01 Jan 1970|Thursday January 70|00:00:00|12AM|%Q%");
        // date -u -d @951868799 and @1709210096
        assert_eq!(at(951_868_799), "Tue 29 Feb 2000|Tuesday February 00|23:59:59|11PM|%Q%");
        assert_eq!(at(1_709_210_096), "Thu 29 Feb 2024|Thursday February 24|12:34:56|12PM|%Q%");
        assert_eq!(at(1_735_689_599), "Tue 31 Dec 2024|Tuesday December 24|23:59:59|11PM|%Q%");
    }
}
