"""The Open Inference Protocol (KServe V2) over HTTP, with Triton's extension for binary tensor data.

`schema` has the JSON, `inputs` reads the images of a request, `reader` decides when, `outputs` writes the tensors of a
response, and `routes` joins them. Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""
