package server

import (
	"fmt"
	"strings"
	"time"

	"github.com/hotsvc/svc/configsrc"
	"github.com/hotsvc/svc/server/certs"
	"github.com/hotsvc/svc/server/liveconn"
)

// Config is the section "server" of the configuration. What is marked live
// changes in place, on connections that are open too where that says anything
// to them; the rest is read by [Server.Run] once.
type Config struct {
	// Listen are the addresses to serve on: host:port, or unix:PATH. The host
	// may be empty (all addresses), an IP address or a name; port 0 is any free
	// port.
	Listen []string `config:"listen"`
	TLS    TLS      `config:"tls"`
	// H2C allows HTTP/2 without TLS, to clients that begin with it (RFC 9113
	// section 3.3). It says nothing where there is TLS.
	H2C bool `config:"h2c"`
	// MaxHeaderBytes bounds the header of a request; a longer one is answered
	// with 431. net/http grants 4 KiB more on HTTP/1, and on HTTP/2 as much as
	// ten short fields need; a single field beyond the bound ends an HTTP/2
	// connection.
	MaxHeaderBytes Size    `config:"max_header_bytes" validate:"gte=256,lte=67108864"`
	Timeout        Timeout `config:"timeout" reload:"live"`
	Limit          Limit   `config:"limit" reload:"live"`
	CORS           CORS    `config:"cors" reload:"live"`
	// TrustedProxies are the addresses and networks ("10.0.0.0/8") of proxies
	// whose X-Forwarded-For is believed, or "unix" for those that come over a
	// unix socket. See [ClientAddr].
	TrustedProxies []string `config:"trusted_proxies" reload:"live"`
	Drain          Drain    `config:"drain" reload:"live"`
}

// The modes of TLS.
const (
	ModeOff  = "off"
	ModeTLS  = "tls"
	ModeMTLS = "mtls" // clients must show a certificate of client_ca
)

// TLS is the section "server.tls". Each of cert, key and client_ca is PEM text,
// or "file:PATH", and then the file is watched.
type TLS struct {
	Mode     string           `config:"mode" validate:"oneof=off tls mtls"`
	Cert     string           `config:"cert" reload:"live"`
	Key      configsrc.Secret `config:"key" reload:"live"`
	ClientCA string           `config:"client_ca" reload:"live"`
}

// Material is what [certs.Open] is to open for this section, and whether
// clients must show certificates; ok is false with mode off.
func (t TLS) Material() (c certs.Config, mutual, ok bool) {
	c = certs.Config{Cert: t.Cert, Key: t.Key}
	if mutual = t.Mode == ModeMTLS; mutual {
		c.ClientCA = t.ClientCA
	}
	return c, mutual, t.On()
}

// On reports whether connections are encrypted.
func (t TLS) On() bool { return t.Mode != ModeOff && t.Mode != "" }

// Timeout is the section "server.timeout"; 0 is no limit. See
// [liveconn.Timeouts], which it becomes.
type Timeout struct {
	ReadHeader time.Duration `config:"read_header" validate:"gte=0"`
	Read       time.Duration `config:"read" validate:"gte=0"`
	Write      time.Duration `config:"write" validate:"gte=0"`
	Idle       time.Duration `config:"idle" validate:"gte=0"`
	// Request is the time a request may take. It ends the request's context,
	// and one that is still without an answer then gets 503.
	Request time.Duration `config:"request" alias:"app.timeout" validate:"gte=0"`
}

// Limit is the section "server.limit"; 0 is no limit. What is refused never
// reaches the application, a body of unknown length apart. Preflights of CORS do
// not reach it either, and count for connections only.
type Limit struct {
	// BodyBytes bounds a request's body: 413. Where the length is not told
	// before, reading beyond it fails with [*http.MaxBytesError], and a handler
	// that returns without an answer then gets 413.
	BodyBytes Size `config:"body_bytes" validate:"gte=0"`
	// Concurrency bounds the requests that run at once: 429. A place is free
	// when the handler has returned.
	Concurrency int `config:"concurrency" validate:"gte=0"`
	// RPS bounds the requests a second, of all clients together: 429.
	RPS float64 `config:"rps" validate:"gte=0,lte=1000000000"`
	// Burst is how many requests may come at once under RPS, after a pause.
	// 0 is as many as in a second.
	Burst int `config:"burst" validate:"gte=0"`
	// Connections bounds the open connections. What comes on top is answered
	// with 503 and closed, and beyond 64 of those at a time closed unheard.
	Connections int `config:"connections" validate:"gte=0"`
}

// CORS is the section "server.cors": which pages of other origins may read
// answers (https://fetch.spec.whatwg.org/#http-cors-protocol). Without origins
// there is none of it. Credentials are never allowed.
type CORS struct {
	// Origins are "https://example.com", with one * for any text in it, or "*".
	Origins []string `config:"origins"`
	// Methods are those allowed beside GET, HEAD and POST.
	Methods []string `config:"methods"`
	// Headers are those that a request may carry beside the harmless ones, or
	// "*".
	Headers []string `config:"headers"`
}

// Drain is the section "server.drain".
type Drain struct {
	// Timeout bounds a drain: what is still open then is closed. After a
	// handover the keeper goes by it.
	Timeout time.Duration `config:"timeout" validate:"gt=0"`
	// Spread is the time over which handlers that hold a connection for long are
	// to let it go, each at a moment of its own: see [liveconn.Conn.Leave].
	Spread time.Duration `config:"spread" validate:"gte=0"`
	// Overlap is how long an address that a restart gives up is still served.
	Overlap time.Duration `config:"overlap" validate:"gte=0"`
	// MaxGenerations is how many generations may drain at once beside the one
	// that serves. With one more, the oldest must end.
	MaxGenerations int `config:"max_generations" validate:"gte=1,lte=100"`
}

// Default returns the settings of a service that sets none.
func Default() Config {
	return Config{
		Listen:         []string{"127.0.0.1:8080"},
		TLS:            TLS{Mode: ModeOff},
		MaxHeaderBytes: 1 << 20,
		Timeout: Timeout{
			ReadHeader: 5 * time.Second,
			Read:       30 * time.Second,
			Write:      30 * time.Second,
			Idle:       120 * time.Second,
			Request:    15 * time.Second,
		},
		Limit: Limit{BodyBytes: 1 << 20},
		Drain: Drain{Timeout: 30 * time.Second, Spread: 5 * time.Second, Overlap: 5 * time.Second, MaxGenerations: 4},
	}
}

// Validate checks what struct tags cannot. Its error is a
// [*configsrc.InvalidError] with keys relative to the section ("listen[0]"). It
// resolves no name, opens nothing and reads no file.
func (c *Config) Validate() error {
	var problems problemList
	c.validateListen(&problems)
	c.TLS.validate(&problems)
	c.CORS.validate(&problems)
	for i, text := range c.TrustedProxies {
		if _, err := parseProxy(text); err != nil {
			problems.add(fmt.Sprintf("trusted_proxies[%d]", i), err.Error())
		}
	}
	if problems != nil {
		return &configsrc.InvalidError{Problems: problems}
	}
	return nil
}

type problemList []configsrc.Problem

func (l *problemList) add(key, reason string) {
	*l = append(*l, configsrc.Problem{Key: key, Reason: reason})
}

func (t *TLS) validate(problems *problemList) {
	exposed := false
	for key, text := range map[string]string{"cert": t.Cert, "client_ca": t.ClientCA} {
		if strings.Contains(text, "PRIVATE KEY-----") {
			exposed = true
			problems.add("tls."+key, "holds a private key: it belongs into tls.key, which is masked wherever it could be seen")
		}
	}
	material, mutual, ok := t.Material()
	if !ok || exposed {
		return // with mode off it is prepared for later, maybe; nothing is done with it
	}
	missing := false
	for _, m := range []struct {
		key, value string
		needed     bool
	}{{"cert", t.Cert, true}, {"key", string(t.Key), true}, {"client_ca", t.ClientCA, mutual}} {
		if m.needed && m.value == "" {
			problems.add("tls."+m.key, "must be set when server.tls.mode is "+t.Mode+", as PEM or file:PATH")
			missing = true
		}
	}
	if missing {
		return
	}
	for _, p := range material.Problems(certs.Options{Mutual: mutual}) {
		problems.add("tls."+p.Key, p.Reason)
	}
}

// timeouts are those of connections.
func (t Timeout) timeouts() liveconn.Timeouts { return liveconn.Timeouts(t) }
