package server

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/rs/cors"
)

func (c *CORS) validate(problems *problemList) {
	for i, origin := range c.Origins {
		if !isOrigin(origin) {
			problems.add(fmt.Sprintf("cors.origins[%d]", i),
				"must be *, or a scheme and a host without a path, for example https://example.com or https://*.example.com")
		}
	}
	for i, method := range c.Methods {
		if !isToken(method) || method != strings.ToUpper(method) {
			problems.add(fmt.Sprintf("cors.methods[%d]", i), "must be a method in capitals, for example PUT")
		}
	}
	for i, header := range c.Headers {
		if !isToken(header) {
			problems.add(fmt.Sprintf("cors.headers[%d]", i), "must be the name of a header, or *")
		}
	}
}

func isOrigin(text string) bool {
	if text == "*" {
		return true
	}
	u, err := url.Parse(text)
	return err == nil && u.Scheme != "" && u.Hostname() != "" && u.User == nil &&
		u.Path == "" && !u.ForceQuery && u.RawQuery == "" && u.Fragment == "" &&
		!strings.HasSuffix(text, "#") && strings.Count(text, "*") <= 1
}

// isToken is the grammar of method and header names (RFC 9110 section 5.6.2).
func isToken(text string) bool {
	for _, r := range text {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case strings.ContainsRune("!#$%&'*+-.^_`|~", r):
		default:
			return false
		}
	}
	return text != ""
}

// newCORS is nil where no origin is allowed.
//
// The library has headers of its own for an empty list: Accept, which is harmless
// without it, stands for none.
func newCORS(c *CORS) *cors.Cors {
	if len(c.Origins) == 0 {
		return nil
	}
	methods := append([]string{http.MethodGet, http.MethodHead, http.MethodPost}, c.Methods...)
	headers := append([]string{"Accept"}, c.Headers...)
	return cors.New(cors.Options{AllowedOrigins: c.Origins, AllowedMethods: methods, AllowedHeaders: headers})
}
