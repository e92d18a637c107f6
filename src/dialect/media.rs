//! Images and files of a message: inline (`data:` URL) or elsewhere. Why: what a URL may be is the same question for
//! every wire; what each wire does with it is not. Weir never fetches a URL that a caller named (SSRF); it is passed on.

/// What a URL in a message stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media<'a> {
    /// Base64 of something of this MIME type.
    Inline { mime: &'a str, data: &'a str },
    /// Something that the platform is to fetch.
    Remote(&'a str),
}

/// Reads the `url` of a part.
///
/// # Errors
/// Why it cannot be used, as the end of the sentence "messages[i] …".
pub(super) fn read(url: &str) -> Result<Media<'_>, &'static str> {
    let Some(rest) = strip_scheme(url, "data:") else {
        if strip_scheme(url, "https://").is_some() {
            return Ok(Media::Remote(url));
        }
        return Err("has a URL that is neither 'https:' nor 'data:'");
    };
    let (head, data) = rest.split_once(',').ok_or("has a 'data:' URL without data")?;
    let mut parameters = head.split(';');
    let mime = parameters.next().unwrap_or_default().trim();
    if !parameters.any(|parameter| parameter.trim().eq_ignore_ascii_case("base64")) {
        return Err("has a 'data:' URL that is not base64");
    }
    if mime.is_empty() || data.is_empty() {
        return Err("has a 'data:' URL without a type or without data");
    }
    Ok(Media::Inline { mime, data })
}

/// Reads `file.file_data`: a `data:` URL, or bare base64 whose type the file's name tells (PDF where it does not).
///
/// # Errors
/// As [`read`].
pub(super) fn read_file<'a>(data: &'a str, filename: Option<&str>) -> Result<Media<'a>, &'static str> {
    if strip_scheme(data, "data:").is_some() {
        return read(data);
    }
    if data.is_empty() {
        return Err("has a file without data");
    }
    Ok(Media::Inline { mime: filename.and_then(mime_of_name).unwrap_or("application/pdf"), data })
}

/// The MIME type that the end of a path or URL tells.
pub(super) fn mime_of_name(name: &str) -> Option<&'static str> {
    let path = name.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        _ => return None,
    })
}

fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = url.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_inline_from_elsewhere() {
        let png = Media::Inline { mime: "image/png", data: "aGk=" };
        assert_eq!(read("data:image/png;base64,aGk="), Ok(png));
        assert_eq!(read("DATA:image/png;name=a.png;BASE64,aGk="), Ok(png));
        assert_eq!(read("https://a/b.png"), Ok(Media::Remote("https://a/b.png")));
        for bad in [
            "",
            "http://a",
            "file:///etc/passwd",
            "data:image/png,hi",
            "data:image/png;base64",
            "data:;base64,aGk=",
            "é",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_files_type_comes_from_its_url_or_its_name() {
        let inline = |mime| Ok(Media::Inline { mime, data: "aGk=" });
        assert_eq!(read_file("data:text/plain;base64,aGk=", Some("a.pdf")), inline("text/plain"));
        assert_eq!(read_file("aGk=", Some("a.TXT")), inline("text/plain"));
        assert_eq!(read_file("aGk=", None), inline("application/pdf"));
        assert_eq!(mime_of_name("https://a/b.JPG?x=y.png"), Some("image/jpeg"));
    }
}
