"""The version of sage, which results and what is kept between runs carry."""

__version__ = "0.1.0"
