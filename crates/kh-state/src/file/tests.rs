//! Headers, as data.

use super::*;

fn header(application: u32, version: u32, pages: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..18].copy_from_slice(&4096_u16.to_be_bytes());
    bytes[24..28].copy_from_slice(&7_u32.to_be_bytes());
    bytes[28..32].copy_from_slice(&pages.to_be_bytes());
    bytes[60..64].copy_from_slice(&version.to_be_bytes());
    bytes[68..72].copy_from_slice(&application.to_be_bytes());
    bytes[92..96].copy_from_slice(&7_u32.to_be_bytes());
    bytes
}

#[test]
fn headers() {
    let ours = header(schema::APPLICATION_ID, schema::VERSION, 3);
    let newer = header(schema::APPLICATION_ID, schema::VERSION + 1, 3);
    let other = header(1, schema::VERSION, 3);
    let text = b"[client]\nname = \"x\"\n".repeat(9);
    for (bytes, size, log_size, expected) in [
        (&ours[..], 3 * 4096, 0, Ok(())),
        (&ours[..], 2 * 4096, 0, Err(Fault::Short { expected: 3 * 4096, found: 2 * 4096 })),
        (&ours[..], 2 * 4096, 4096, Ok(())),
        (&ours[..50], 50, 0, Err(Fault::Short { expected: 100, found: 50 })),
        (&ours[..7], 7, 0, Err(Fault::NotSqlite)),
        (&[], 0, 0, Err(Fault::Empty)),
        (&text[..HEADER], 180, 0, Err(Fault::NotSqlite)),
        (&other[..], 3 * 4096, 0, Err(Fault::Foreign)),
        (&newer[..], 3 * 4096, 0, Err(Fault::TooNew(schema::VERSION + 1))),
    ] {
        assert_eq!(judge(bytes, size, log_size), expected, "{size} {log_size}");
    }
}

#[test]
fn companions_keep_the_whole_name() {
    assert_eq!(beside(Path::new("/x/state.db"), "-wal"), Path::new("/x/state.db-wal"));
    assert_eq!(folder(Path::new("state.db")), Path::new("."));
}
