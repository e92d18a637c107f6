//! The device flow: a code for the machine, a code for the person, and polls in between. Who polls too fast is told so.

use serde_json::json;

use super::books::{Ask, Client, Device, Issued, State};
use super::call::Call;
use super::refusals::Why;
use super::rows::{Endpoint, Style};
use super::token;
use crate::fake::wire::Native;
use crate::ids::random_name;

/// Letters that nobody takes for one another (RFC 8628, 6.1).
const LETTERS: [char; 20] =
    ['B', 'C', 'D', 'F', 'G', 'H', 'J', 'K', 'L', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Z'];

fn user_code() -> String {
    let letter = |byte: u8| LETTERS.get(usize::from(byte) % LETTERS.len()).copied().unwrap_or('B');
    let letters: String = random_name("", 8).bytes().map(letter).collect();
    let (first, last) = letters.split_at(4);
    format!("{first}-{last}")
}

/// Begins a flow.
pub fn begin(call: &Call<'_>, state: &mut State) -> Result<Native, Why> {
    let client = token::client(call, state)?;
    if !client.device {
        return Err(Why::Unauthorized);
    }
    let scopes: Vec<String> =
        call.optional("scope")?.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let allowed = |scope: &String| {
        let known = call.row.scopes.contains(&scope.as_str());
        // Google's device flow knows a few scopes only, and Gemini's are not among them.
        known && !(call.row.style == Style::Google && scope.starts_with("https://"))
    };
    if !scopes.iter().all(allowed) {
        return Err(Why::Scope);
    }
    let challenge = match (call.optional("code_challenge")?, call.optional("code_challenge_method")?) {
        (Some(challenge), Some("S256")) => Some((challenge.to_owned(), false)),
        (None, None) if call.row.style != Style::Qwen => None,
        _ => return Err(Why::Parameter("code_challenge".to_owned())),
    };
    let life = state.settings.device_s.unwrap_or(if call.row.style == Style::Google { 1800 } else { 900 });
    let interval_s = state.settings.interval_s.unwrap_or(if call.row.style == Style::Qwen { 2 } else { 5 });
    let (device_code, user_code) = (random_name("d", 40), user_code());
    let ask = Ask { client_id: client.client_id, scopes, challenge, offline: true, ..Ask::default() };
    let device = Device {
        ask,
        device_code: device_code.clone(),
        until_ms: call.now + life * 1000,
        interval_s,
        polled_ms: None,
        pending: state.settings.pending,
        answer: None,
        used: false,
    };
    state.devices.insert(user_code.clone(), device);
    let page = call.row.path_of(Endpoint::DevicePage).unwrap_or_default();
    let page = format!("{}{page}", super::base(call, state));
    let mut told = json!({"device_code":device_code,"user_code":user_code,"expires_in":life});
    let Some(members) = told.as_object_mut() else { return Err(Why::Server) };
    let address = if call.row.style == Style::Google { "verification_url" } else { "verification_uri" };
    members.insert(address.to_owned(), json!(page));
    match call.row.style {
        Style::Qwen => {
            let whole = format!("{page}?user_code={user_code}&client=qwen-code");
            members.insert("verification_uri_complete".to_owned(), json!(whole));
        }
        Style::HuggingFace | Style::Oidc => {
            let whole = format!("{page}?user_code={user_code}");
            members.insert("verification_uri_complete".to_owned(), json!(whole));
        }
        _ => {}
    }
    // Qwen's is optional; it comes only where a test has set it.
    if call.row.style != Style::Qwen || state.settings.interval_s.is_some() {
        members.insert("interval".to_owned(), json!(interval_s));
    }
    Ok(Native::json(200, &told).with("cache-control", "no-store"))
}

/// One poll.
pub fn poll(call: &Call<'_>, state: &mut State, client: &Client) -> Result<Issued, Why> {
    let given = call.needed("device_code")?;
    let auto = state.settings.auto.clone().map(|person| (!state.settings.auto_deny).then_some(person));
    let device = state.devices.values_mut().find(|device| device.device_code == given);
    let device = device.filter(|device| device.ask.client_id == client.client_id && !device.used);
    let device = device.ok_or(Why::DeviceCode)?;
    if device.until_ms <= call.now {
        return Err(Why::DeviceExpired);
    }
    if call.row.style == Style::Qwen || device.ask.challenge.is_some() {
        token::fits(call, device.ask.challenge.as_ref(), call.optional("code_verifier")?)?;
    }
    let early = device.polled_ms.is_some_and(|last| call.now < last + device.interval_s * 1000);
    device.polled_ms = Some(call.now);
    if early {
        device.interval_s += 5;
        return Err(Why::SlowDown(device.interval_s));
    }
    let Some(answer) = device.answer.clone().or(auto) else { return Err(Why::Pending) };
    if device.pending > 0 {
        device.pending -= 1;
        return Err(Why::Pending);
    }
    device.used = true;
    let ask = device.ask.clone();
    let person = answer.ok_or(Why::Denied)?;
    Ok(state.found(&ask, &person, false, call.now))
}
