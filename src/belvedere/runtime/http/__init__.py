"""HTTP basics of both servers: request limits, security headers, host check and error responses."""
