// Sign-in with Weir for apps that run in a browser: a pop-up, the authorization code with PKCE, and tokens that stay in memory.
//
//   <script src="https://weir.example/sdk/weir-oauth.js"></script>
//   const weir = new WeirOAuth({ issuer: "https://weir.example", clientId: "app_…", redirectUri: "https://app.example/callback" });
//   button.onclick = async () => { await weir.signIn("profile chat"); const me = await weir.userinfo(); };
//
// The page at redirectUri is one of your own, on the same origin as the page that signs in. All that it needs is
//   <script src="https://weir.example/sdk/weir-oauth.js"></script><script>WeirOAuth.finish();</script>
//
// Nothing is kept in localStorage, sessionStorage or cookies: whoever reloads the page signs in again (which is one click, with
// { auto: true } none). Never give a page like this a client secret: register the app as public.
(function (root) {
  "use strict";

  const MARK = "weir-oauth";

  const base64url = (bytes) =>
    btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  const random = () => base64url(root.crypto.getRandomValues(new Uint8Array(32)));

  const challengeOf = async (verifier) =>
    base64url(new Uint8Array(await root.crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));

  class WeirOAuthError extends Error {
    constructor(code, message) {
      super(message || code);
      this.name = "WeirOAuthError";
      this.code = code;
    }
  }

  class WeirOAuth {
    #issuer;
    #clientId;
    #redirectUri;
    #tokens = null;
    #renewing = null;
    // Grows with each sign-out: what was asked for before that is nobody's when it comes.
    #era = 0;

    constructor({ issuer, clientId, redirectUri }) {
      this.#issuer = new URL(issuer).origin;
      this.#clientId = clientId;
      this.#redirectUri = redirectUri;
      if (new URL(redirectUri).origin !== root.location.origin) {
        throw new WeirOAuthError("invalid_redirect_uri", "redirectUri has to be on this page's own origin");
      }
    }

    // Opens the pop-up. Call it from a click, or the browser blocks it. Gives the granted scope.
    async signIn(scope = "profile", { auto = false, timeout = 300000 } = {}) {
      const popup = root.open("about:blank", "weir-oauth", "popup,width=520,height=680");
      if (!popup) throw new WeirOAuthError("popup_blocked", "the browser blocked the pop-up");
      try {
        const [state, verifier] = [random(), random()];
        const url = new URL("/api/oauth2/authorize", this.#issuer);
        const asked = {
          response_type: "code",
          client_id: this.#clientId,
          redirect_uri: this.#redirectUri,
          scope,
          state,
          code_challenge: await challengeOf(verifier),
          code_challenge_method: "S256",
        };
        if (auto) asked.auto_authorize = "true";
        for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
        const answered = this.#answer(popup, timeout);
        popup.location.replace(url.href);
        const answer = new URLSearchParams(await answered);
        // Whose answer it is, before anything in it is believed.
        if (answer.getAll("state").length !== 1 || answer.get("state") !== state) {
          throw new WeirOAuthError("invalid_state", "the answer is not to this question");
        }
        if (answer.getAll("iss").length !== 1 || answer.get("iss") !== this.#issuer) {
          throw new WeirOAuthError("invalid_issuer", "the answer is somebody else's");
        }
        if (answer.get("error")) throw new WeirOAuthError(answer.get("error"), answer.get("error_description"));
        const codes = answer.getAll("code");
        if (codes.length !== 1) throw new WeirOAuthError("invalid_response", "the answer holds no code");
        await this.#trade({
          grant_type: "authorization_code",
          code: codes[0],
          redirect_uri: this.#redirectUri,
          code_verifier: verifier,
        });
        return this.#tokens.scope;
      } finally {
        popup.close();
      }
    }

    #answer(popup, timeout) {
      return new Promise((resolve, reject) => {
        let watch, limit;
        const end = (settle, value) => {
          root.removeEventListener("message", hear);
          root.clearInterval(watch);
          root.clearTimeout(limit);
          settle(value);
        };
        const hear = (event) => {
          // From our own callback page in the window that we opened, and from nobody else.
          if (event.origin !== root.location.origin || event.source !== popup) return;
          if (!event.data || event.data.from !== MARK || typeof event.data.query !== "string") return;
          end(resolve, event.data.query);
        };
        root.addEventListener("message", hear);
        watch = root.setInterval(() => {
          if (popup.closed) end(reject, new WeirOAuthError("popup_closed", "the pop-up was closed"));
        }, 500);
        limit = root.setTimeout(() => end(reject, new WeirOAuthError("timeout", "nobody answered")), timeout);
      });
    }

    async #trade(fields) {
      const era = this.#era;
      const body = new URLSearchParams({ ...fields, client_id: this.#clientId });
      const response = await root.fetch(new URL("/api/oauth2/token", this.#issuer), {
        method: "POST",
        body,
        credentials: "omit",
        cache: "no-store",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
      const answer = await response.json().catch(() => ({}));
      if (era !== this.#era) {
        if (response.ok) await this.#revoke(answer.refresh_token);
        throw new WeirOAuthError("signed_out", "signed out meanwhile");
      }
      if (!response.ok) {
        if (answer.error === "invalid_grant") this.#tokens = null;
        throw new WeirOAuthError(answer.error || "server_error", answer.error_description);
      }
      this.#tokens = {
        access: answer.access_token,
        refresh: answer.refresh_token,
        scope: answer.scope,
        until: root.performance.now() + (Number(answer.expires_in) || 60) * 1000,
      };
    }

    get signedIn() {
      return this.#tokens !== null;
    }

    // A token that is good for a minute at least.
    async accessToken() {
      if (!this.#tokens) throw new WeirOAuthError("signed_out", "nobody is signed in");
      if (root.performance.now() < this.#tokens.until - 60000) return this.#tokens.access;
      // One at a time: a refresh token that is used twice ends everything.
      if (!this.#renewing) {
        const renewing = this.#trade({ grant_type: "refresh_token", refresh_token: this.#tokens.refresh }).finally(() => {
          if (this.#renewing === renewing) this.#renewing = null;
        });
        this.#renewing = renewing;
      }
      await this.#renewing;
      if (!this.#tokens) throw new WeirOAuthError("signed_out", "signed out meanwhile");
      return this.#tokens.access;
    }

    async #get(path) {
      const response = await root.fetch(new URL(path, this.#issuer), {
        headers: { authorization: `Bearer ${await this.accessToken()}` },
        credentials: "omit",
        cache: "no-store",
      });
      const answer = await response.json().catch(() => ({}));
      if (response.ok) return answer;
      throw new WeirOAuthError(answer.error?.code || "server_error", answer.error?.message);
    }

    userinfo() {
      return this.#get("/api/oauth2/userinfo");
    }

    async topupUrl() {
      return (await this.#get("/api/oauth2/topup")).topup_url;
    }

    // Ends the grant's tokens, here and at Weir.
    async signOut() {
      const tokens = this.#tokens;
      this.#tokens = this.#renewing = null;
      this.#era += 1;
      if (tokens) await this.#revoke(tokens.refresh);
    }

    async #revoke(token) {
      const body = new URLSearchParams({ token, client_id: this.#clientId });
      await root.fetch(new URL("/api/oauth2/revoke", this.#issuer), { method: "POST", body, credentials: "omit" });
    }

    // For the callback page: hands the answer to the page that opened this one, which has to be of this very origin.
    static finish() {
      const query = root.location.search.slice(1);
      root.history.replaceState(null, "", root.location.pathname);
      if (!root.opener) return false;
      root.opener.postMessage({ from: MARK, query }, root.location.origin);
      root.close();
      return true;
    }
  }

  WeirOAuth.Error = WeirOAuthError;
  root.WeirOAuth = WeirOAuth;
})(globalThis);
