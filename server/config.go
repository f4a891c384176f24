package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hotsvc/svc/configsrc"
)

// Config is the section "server" of the configuration.
type Config struct {
	// Listen are the addresses to serve on, host:port. The host may be empty
	// (all addresses), an IP address or a name; port 0 is any free port.
	Listen  []string `config:"listen"`
	Timeout Timeout  `config:"timeout" reload:"live"`
	Drain   Drain    `config:"drain" reload:"live"`
}

// Timeout is the section "server.timeout".
type Timeout struct {
	// Request is the time a request may take, from its header to its answer.
	// It ends the request's context. A handler that waits for a slow client (a
	// body that stalls, a reader that does not read) notices only when that
	// wait ends, for a body after 30 seconds at the latest.
	// 0 is no limit.
	Request time.Duration `config:"request" alias:"app.timeout" validate:"gte=0"`
}

// Drain is the section "server.drain".
type Drain struct {
	// Timeout bounds a drain: what is still open then is closed.
	Timeout time.Duration `config:"timeout" validate:"gt=0"`
}

// Default returns the settings of a service that sets none.
func Default() Config {
	return Config{
		Listen:  []string{"127.0.0.1:8080"},
		Timeout: Timeout{Request: 15 * time.Second},
		Drain:   Drain{Timeout: 30 * time.Second},
	}
}

// Validate checks what struct tags cannot: the addresses. Its error is a
// [*configsrc.InvalidError] with keys relative to the section ("listen[0]").
// It resolves no name and opens nothing.
func (c *Config) Validate() error {
	if len(c.Listen) == 0 {
		return &configsrc.InvalidError{Problems: []configsrc.Problem{{
			Key: "listen", Reason: "must name at least one address, as host:port",
		}}}
	}
	var problems []configsrc.Problem
	seen := map[string]int{}
	for i, address := range c.Listen {
		key := fmt.Sprintf("listen[%d]", i)
		canonical, port, err := canonicalAddress(address)
		if err != nil {
			problems = append(problems, configsrc.Problem{Key: key, Reason: err.Error()})
			continue
		}
		if first, ok := seen[canonical]; ok {
			problems = append(problems, configsrc.Problem{
				Key: key, Reason: fmt.Sprintf("is the same address as listen[%d]: remove one", first),
			})
			continue
		}
		// Each port 0 is another port.
		if port != 0 {
			seen[canonical] = i
		}
	}
	if problems != nil {
		return &configsrc.InvalidError{Problems: problems}
	}
	return nil
}

// canonicalAddress returns address in the one form that equal addresses share,
// and its port. The error does not hold the address.
func canonicalAddress(address string) (string, uint16, error) {
	if strings.HasPrefix(address, "unix:") {
		return "", 0, errors.New("unix sockets are not served yet: use host:port")
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, errors.New("must be host:port, for example 127.0.0.1:8080, [::1]:8080 or :8080")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, errors.New("the port must be a number from 0 to 65535")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String()
	} else if !isHostName(host) {
		return "", 0, errors.New("the host must be an IP address, a host name, or empty for all addresses")
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(port, 10)), uint16(port), nil
}

// isHostName is true for the empty name too, which means all addresses.
func isHostName(name string) bool {
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case r == '-', r == '.', r == '_':
		default:
			return false
		}
	}
	return len(name) <= 253
}
