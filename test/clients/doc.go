// Package clients holds tests with clients that nobody here wrote: the
// CloudEvents SDKs for JavaScript and Go send real GitHub webhook payloads to
// the running binary, which is killed again and again meanwhile.
//
// It needs Node.js and npm. Where they are missing the tests are skipped, but
// not in CI (CI is set).
package clients
