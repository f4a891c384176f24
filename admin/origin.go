package admin

import (
	"errors"
	"net/http"
	"strings"
)

var errOtherSite = &StatusError{http.StatusForbidden, errors.New("requests from pages of other sites are refused")}

// secure sets the headers that every answer has, refusals too. The API is no
// page: nothing in an answer is to be run, shown in a frame or kept.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// checkOrigin refuses what a browser sends for a page of another site, whatever
// the method: to read is a right of the operator's too. Being on loopback, or on
// a socket behind a proxy, protects from no browser.
func checkOrigin(r *http.Request) error {
	switch r.Method {
	case http.MethodTrace, http.MethodConnect:
		return &StatusError{http.StatusMethodNotAllowed, errors.New("the method is not served")}
	}
	if len(r.Header.Values("Upgrade")) > 0 {
		return &StatusError{http.StatusForbidden, errors.New("no other protocol is served")}
	}
	for _, mode := range r.Header.Values("Sec-Fetch-Mode") {
		if mode == "no-cors" || mode == "websocket" {
			return errOtherSite
		}
	}
	sites := r.Header.Values("Sec-Fetch-Site")
	if len(sites) > 1 || len(sites) == 1 && sites[0] != "same-origin" && sites[0] != "none" {
		return errOtherSite
	}
	// Browsers write scheme and host in lower case and leave out the default
	// port in both headers. What is written otherwise is no browser's.
	origins := r.Header.Values("Origin")
	if len(origins) > 1 || len(origins) == 1 && !strings.EqualFold(origins[0], ownOrigin(r)) {
		return errOtherSite
	}
	// What the standard library knows, in later versions too. It lets safe
	// methods pass, looks at no mode and no scheme, and believes Sec-Fetch-Site
	// before Origin; hence all of the above.
	var protection http.CrossOriginProtection
	if protection.Check(r) != nil {
		return errOtherSite
	}
	return nil
}

func ownOrigin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
