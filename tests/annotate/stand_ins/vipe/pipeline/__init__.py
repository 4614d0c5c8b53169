from vipe.pipeline.default import DefaultAnnotationPipeline


def make_pipeline(arguments):
    return DefaultAnnotationPipeline(arguments)
