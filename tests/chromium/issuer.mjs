// A certified OpenID provider that is not ours, with its own pages: PKCE for everybody, refresh tokens that rotate, and a family
// that dies when an old one comes again. Counts what it is asked.

import { createRequire } from "node:module";

const load = createRequire(`${process.env.WEIR_MODULES}/`);
const { Provider } = await import(load.resolve("oidc-provider"));

export async function start(port, weir) {
  const url = `http://127.0.0.1:${port}`;
  const counts = { refreshed: 0, refused: [], revoked: 0 };
  const provider = new Provider(url, {
    clients: [
      {
        client_id: "weir",
        client_secret: "a-secret-of-the-certified-one",
        redirect_uris: ["/auth/certified/callback", "/api/v1/oauth/callback", "/api/v1/oauth/callback/certified"].map((path) => weir + path),
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
      },
    ],
    scopes: ["openid", "profile", "email", "offline_access", "models"],
    claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
    findAccount: async (_context, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, name: `Certified ${id}`, email: `${id}@example.com`, email_verified: true }),
    }),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async (_context, client) => client.grantTypeAllowed("refresh_token"),
    features: { revocation: { enabled: true }, devInteractions: { enabled: true } },
    ttl: { AccessToken: 3600, Grant: 3600, IdToken: 600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
    cookies: { keys: ["only for tests"] },
  });
  provider.on("grant.success", (context) => {
    if (context.oidc.params.grant_type === "refresh_token") counts.refreshed += 1;
  });
  provider.on("grant.error", (_context, error) => counts.refused.push(`${error.message}: ${error.error_detail}`));
  provider.on("grant.revoked", () => (counts.revoked += 1));
  const server = provider.listen(port, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  return { url, counts, close: () => server.close() };
}
